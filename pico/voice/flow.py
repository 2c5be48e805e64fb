"""Qwen2.5-Omni's flow on a batch of spectrograms, as training needs it: the same function as transformers' class.

All of a batch are spoken by one voice, which is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniToken2WavDiTModel,
    deinterleave_head_dim,
    rotate_half,
)

Through = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
_EPSILON = 1e-6


def slopes(
    flow: Qwen2_5OmniToken2WavDiTModel,
    spectra: Tensor,
    time: Tensor,
    codes: Tensor,
    voice: tuple[Tensor, Tensor],
    blind: bool,
    through: Through,
) -> Tensor:
    """The slopes at noisy `spectra` float32 [batch, frames, bands] and `time` [batch], like `spectra`.

    `codes` int64 [batch, codes]; `voice`: its condition [1, width] and spectrogram [1, frames, bands]; a `blind` flow knows
    neither. `through` is `through_block`, or the same compiled.
    """
    condition, heard = (torch.zeros_like(one) for one in voice) if blind else voice
    moment, told = flow.time_embed(time), flow.text_embed(codes, drop_code=blind)
    known = torch.cat([flow.input_embed.spk_encoder(heard).float(), condition], 1)
    batch, frames, _ = spectra.shape
    known = known[:, None].expand(batch, frames, -1)
    encoded, speaker = known.split((known.shape[2] - condition.shape[1], condition.shape[1]), 2)
    x = flow.input_embed.proj(torch.cat([spectra, encoded, told, speaker], 2)).float()
    cosines, sines = flow.rotary_embed(x, torch.arange(frames)[None])
    for block in flow.transformer_blocks:
        x = through(block, x, moment, cosines, sines, _mask(flow.block_size, frames, block))
    scale, shift = flow.norm_out.linear(F.silu(moment))[:, None].chunk(2, 2)
    return flow.proj_out(_normed(x) * (1 + scale) + shift)


def through_block(
    block: nn.Module, x: Tensor, moment: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor
) -> Tensor:
    """Frames float32 [batch, frames, width] through a block, at the embedded time `moment` [batch, width]; `mask` is added to
    scores [batch, heads, frames, frames]."""
    shift, scale, gate, fed_shift, fed_scale, fed_gate = block.attn_norm.linear(F.silu(moment))[
        :, None
    ].chunk(6, 2)
    x = x + gate * _attend(block.attn, _normed(x) * (1 + scale) + shift, cosines, sines, mask)
    widen, narrow = block.ff.ff[0], block.ff.ff[-1]
    fed = F.gelu(widen(_normed(x) * (1 + fed_scale) + fed_shift), approximate="tanh")
    return x + fed_gate * narrow(fed)


def _mask(size: int, frames: int, block: nn.Module) -> Tensor:
    """Zero where a frame's attention reaches, `size` frames a block, and else a large negative number, [frames, frames]."""
    number = torch.arange(frames) // size
    apart = number - number[:, None]
    seen = (apart >= -block.look_backward_block) & (apart <= block.look_ahead_block)
    return torch.zeros(frames, frames).masked_fill(~seen, -1e9)


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPSILON)


def _attend(attention: nn.Module, x: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
    """Self-attention without SDPA, whose backward pass is slow on a CPU. The first head alone knows where it is."""
    query, key, value = (
        layer(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    query, key = (
        torch.cat([_turned(one[:, :1], cosines, sines).to(one.dtype), one[:, 1:]], 1) for one in (query, key)
    )
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + mask.to(value.dtype)
    return attention.to_out[0]((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    halves = deinterleave_head_dim(x)
    return halves * cosines + rotate_half(halves) * sines
