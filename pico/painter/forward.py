"""Z-Image's transformer on a batch of pictures of one size, as training needs it: the same function as diffusers' class.

Captions are filled up to `ROWS` rows, as the class does itself with those that are no longer, so that all have the same
places; what training would compute for each picture in a list is computed for all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF, ZImageTransformerBlock
from torch import Tensor
from torch.nn import functional as F

Through = Callable[[ZImageTransformerBlock, Tensor, Tensor, Tensor, Tensor | None], Tensor]
ROWS = SEQ_MULTI_OF
"""Rows of a caption, and the longest that is learned from."""
PATCH = 2
_KIND = f"{PATCH}-1"
"""The name of the layers for patches of two by two, in one frame."""


def _cut(latents: Tensor, side: int) -> Tensor:
    """Latents as patches [pictures, patches, values]."""
    cut = latents.unflatten(3, (side, PATCH)).unflatten(2, (side, PATCH))
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _joined(patches: Tensor, side: int) -> Tensor:
    cut = patches.view(len(patches), side, side, PATCH, PATCH, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


@cache
def _turns(embedder: object, side: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rows' places and then of the patches', float32 [ROWS + patches, width of a head / 2]."""
    assert callable(embedder)
    rows = torch.stack([torch.arange(ROWS) + 1, torch.zeros(ROWS), torch.zeros(ROWS)], 1)
    down, across = (
        p.flatten() for p in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    )
    patches = torch.stack([torch.full_like(down, ROWS + 1), down, across], 1)
    turns = embedder(torch.cat([rows, patches]).int())
    return turns.real.contiguous(), turns.imag.contiguous()


def through_block(
    block: ZImageTransformerBlock, x: Tensor, cosines: Tensor, sines: Tensor, moment: Tensor | None
) -> Tensor:
    """Rows [pictures, tokens, width] through a block; those of captions do not know the time and have no `moment`."""
    if moment is None:
        mixed = _attend(block.attention, _normed(x, block.attention_norm1), cosines, sines)
        x = x + _normed(mixed, block.attention_norm2)
        return x + _normed(_feed(block.feed_forward, _normed(x, block.ffn_norm1)), block.ffn_norm2)
    scale, gate, feed_scale, feed_gate = block.adaLN_modulation(moment)[:, None].chunk(4, 2)
    mixed = _attend(block.attention, _normed(x, block.attention_norm1) * (1 + scale), cosines, sines)
    x = x + gate.tanh() * _normed(mixed, block.attention_norm2)
    fed = _feed(block.feed_forward, _normed(x, block.ffn_norm1) * (1 + feed_scale))
    return x + feed_gate.tanh() * _normed(fed, block.ffn_norm2)


def predict(
    net: ZImageTransformer2DModel,
    latents: Tensor,
    time: Tensor,
    captions: Tensor,
    lengths: Tensor,
    through: Through = through_block,
) -> Tensor:
    """What diffusers' class gives for latents [pictures, channels, side, side] at `time` [pictures] (1: the picture).

    `captions` [pictures, ROWS, width of captions], of which `lengths` int64 [pictures] rows are meant. `through` is
    `through_block`, or the same compiled.
    """
    side = latents.shape[2] // PATCH
    moment = net.t_embedder(time * net.t_scale)
    cosines, sines = _turns(net.rope_embedder, side)
    drawn = net.all_x_embedder[_KIND](_cut(latents, side))
    for block in net.noise_refiner:
        drawn = through(block, drawn, cosines[ROWS:], sines[ROWS:], moment)
    blank = torch.arange(ROWS) >= lengths[:, None]
    told = net.cap_embedder(captions)
    told = torch.where(blank[..., None], net.cap_pad_token.to(told.dtype), told)
    for block in net.context_refiner:
        told = through(block, told, cosines[:ROWS], sines[:ROWS], None)
    hidden = torch.cat([told, drawn], 1)
    for block in net.layers:
        hidden = through(block, hidden, cosines, sines, moment)
    return _joined(net.all_final_layer[_KIND](hidden[:, ROWS:], c=moment), side)


def _normed(x: Tensor, norm: torch.nn.Module) -> Tensor:
    return F.rms_norm(x.float(), norm.weight.shape, norm.weight, norm.eps)


def _feed(layer: torch.nn.Module, x: Tensor) -> Tensor:
    return layer.w2(F.silu(layer.w1(x)) * layer.w3(x))


def _attend(attention: torch.nn.Module, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Self-attention without SDPA, whose backward pass is slow on a CPU, and without complex numbers."""
    query, key, value = (
        layer(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    query = _turned(_normed(query, attention.norm_q), cosines, sines)
    key = _turned(_normed(key, attention.norm_k), cosines, sines)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    mixed = scores.softmax(-1).to(value.dtype) @ value
    return attention.to_out[0](mixed.transpose(1, 2).flatten(2))


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Each pair (a, b) of `x` [..., tokens, width of a head] turned by its place."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosines - odd * sines, even * sines + odd * cosines], -1).flatten(-2)
