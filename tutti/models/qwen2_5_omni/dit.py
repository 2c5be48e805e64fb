"""The flow's network: what it consists of (DiT, Peebles and Xie 2022; conditioned as in F5-TTS, Chen et al. 2024).

A transformer over frames of a spectrogram whose norms are set by the time between noise and sound. The parameters have
the checkpoint's names, but for those that lie in one (`STACKS`). How a slope is computed with them is `flow`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.kernels import Dense, PackedLinear, activate, pack_linear
from tutti.layers.modules import Embedding, Linear
from tutti.models.qwen2_5_omni.voiceprint import SpeakerEncoder
from tutti.models.reading import Config

STACKS = {"to_qkv": ("to_q", "to_k", "to_v")}
"""For `towers.fill`."""

_EPS = 1e-6
_TIMES = 256  # sines and cosines that a time becomes
_TIME_SCALE = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What a time between noise and sound sets: for each layer, [1, width] or [width] each, scales with their 1.

    shift, scale and gate of its attention, the same of its feed-forward; and of all layers the last scale and shift.
    """

    layers: tuple[tuple[Tensor, ...], ...]
    last: tuple[Tensor, Tensor]


class FlowNetwork(nn.Module):
    """The network. `bands` of a spectrogram, `repeats` frames a code, attention in blocks of `block` frames."""

    def __init__(self, config: Config) -> None:
        """`config`: the section `dit_config` of config.json."""
        super().__init__()
        width = config.get("hidden_size", 1024)
        self.bands = config.get("mel_dim", 80)
        self.repeats = config.get("repeats", 2)
        self.block = config.get("block_size", 24)
        self.heads = config.get("num_attention_heads", 16)
        self.head_dim = config.get("head_dim", 64)
        self.base = (config.get("rope_parameters") or config).get("rope_theta", 10_000.0)
        self.time_embed = _TimeEmbedding(width)
        self.text_embed = _CodeEmbedding(config)
        self.input_embed = _InputEmbedding(config, width)
        ahead = config.get("look_ahead_layers", (10,))
        back = config.get("look_backward_layers", (0, 20))
        self.transformer_blocks = nn.ModuleList(
            Block(
                width, self.heads * self.head_dim, config.get("ff_mult", 2), int(i in back), int(i in ahead)
            )
            for i in range(config.get("num_hidden_layers", 22))
        )
        self.norm_out = AdaptiveNorm(width, 2)
        self.proj_out = Linear(width, self.bands)
        self._moments: dict[float, Moment] = {}

    def pack(self, dtype: torch.dtype) -> FlowNetwork:
        """Packs the matrices that every frame goes through, for `dtype`; what is computed once stays in float32."""
        self.dtype = dtype
        for block in self.transformer_blocks:
            assert isinstance(block, Block)
            block.pack(dtype)
        self.to_bands = packed(self.proj_out, dtype)
        del self.proj_out
        return self

    def moment(self, time: float) -> Moment:
        """What the time sets. A flow's steps are at the same times for every sound, so each is computed once."""
        known = self._moments.get(time)
        if known is None:
            known = self._moments[time] = self._moment(time)
        return known

    def _moment(self, time: float) -> Moment:
        embedded = self.time_embed(torch.tensor([time], device=self.norm_out.linear.weight.device))
        layers = []
        for block in self.transformer_blocks:
            assert isinstance(block, Block)
            shift, scale, gate, shift_ff, scale_ff, gate_ff = block.attn_norm(embedded)
            parts = shift[0], 1 + scale[0], gate, shift_ff[0], 1 + scale_ff[0], gate_ff
            layers.append(tuple(part.to(self.dtype) for part in parts))
        scale, shift = (part[0].to(self.dtype) for part in self.norm_out(embedded))
        return Moment(tuple(layers), (shift, 1 + scale))

    def known(self, codes: Tensor, voice: Tensor) -> Tensor:
        """What is known of windows' frames, with guidance and then without: float32 [2 * windows, frames, width].

        `codes` int64 [windows, codes]; `voice` [2 * windows, 1, width]: what `voice` makes of their speakers.
        """
        said = self.text_embed(torch.cat([codes, torch.zeros_like(codes)]))
        return F.linear(said, self.input_embed.columns.code) + voice

    def voice(self, condition: Tensor, mel: Tensor) -> Tensor:
        """What a speaker gives to every frame, with guidance and without: float32 [2, 1, width].

        The checkpoint's `condition` float32 [1, condition] and `mel` float32 [1, frames, bands].
        """
        enter, columns = self.input_embed.proj, self.input_embed.columns
        heard = self.input_embed.spk_encoder(torch.cat([mel, torch.zeros_like(mel)]))
        speaker = torch.cat([condition, torch.zeros_like(condition)])
        given = F.linear(heard, columns.voice, enter.bias) + F.linear(speaker, columns.speaker)
        return given[:, None]

    def rotation(self, positions: Tensor) -> Tensor:
        """What turns pairs of dimensions at `positions` int64 [...]: complex64 [..., head_dim / 2] of length 1."""
        exponents = torch.arange(0, self.head_dim, 2, device=positions.device).float() / self.head_dim
        angles = positions[..., None] * (1.0 / self.base**exponents)
        return torch.polar(torch.ones_like(angles), angles)


class AdaptiveNorm(nn.Module):
    """A norm of which the time says how much it scales and shifts."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = Linear(width, parts * width)

    def forward(self, moment: Tensor) -> tuple[Tensor, ...]:
        """`moment` [1, width] -> `parts` shifts, scales and gates, each [1, width]."""
        return self.linear(F.silu(moment)).chunk(self.parts, dim=1)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """norm(x) * scale + shift over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], scale, shift, _EPS)


def packed(layer: nn.Module, dtype: torch.dtype) -> PackedLinear:
    """The linear layer for activations of `dtype`, [rows, width] -> [rows, width]."""
    assert isinstance(layer, nn.Linear)
    return pack_linear(
        Dense(layer.weight.detach()), layer.bias.detach(), device=layer.weight.device, dtype=dtype
    )


class Block(nn.Module):
    """A layer; its attention sees `back` blocks of frames before its own and `ahead` behind it.

    Packed, it multiplies with `to_qkv` (queries, keys and values in one), `to_out`, `widen` and `narrow`.
    """

    def __init__(self, width: int, inner: int, multiple: float, back: int, ahead: int) -> None:
        super().__init__()
        self.back, self.ahead = back, ahead
        self.attn_norm = AdaptiveNorm(width, 6)
        self.attn = _Attention(width, inner)
        self.ff = _FeedForward(width, int(width * multiple))

    def pack(self, dtype: torch.dtype) -> None:
        """See `FlowNetwork.pack`."""
        self.to_qkv, self.to_out = packed(self.attn.to_qkv, dtype), packed(self.attn.to_out[0], dtype)
        self.widen, self.narrow = packed(self.ff.ff[0], dtype), packed(self.ff.ff[-1], dtype)
        del self.attn, self.ff

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward network: [frames, width] -> the same shape."""
        return self.narrow(activate(self.widen(x), "gelu_tanh"))


class _Attention(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_qkv = Linear(width, 3 * inner)
        self.to_out = nn.Sequential(Linear(inner, width))


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        unused = nn.Identity(), nn.Identity()  # places of the activation and, in training, of dropout
        self.ff = nn.Sequential(Linear(width, inner), *unused, Linear(inner, width))


class _TimeEmbedding(nn.Module):
    """A time in [0, 1] to the vector [1, width] that the norms are set by."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(Linear(_TIMES, width), nn.SiLU(), Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        half = _TIMES // 2
        speeds = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=time.device).float())
        angles = _TIME_SCALE * time * speeds[None]
        out: Tensor = self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
        return out


class _CodeEmbedding(nn.Module):
    """Codes, each of them as many frames as it stands for; code 0 is none."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.repeats = config.get("repeats", 2)
        self.codec_embed = Embedding(config.get("num_embeds", 8193) + 1, config.get("emb_dim", 512))

    def forward(self, codes: Tensor) -> Tensor:
        """int64 [rows, codes] -> [rows, frames, emb_dim]."""
        embedded: Tensor = self.codec_embed(codes)
        return embedded.repeat_interleave(self.repeats, dim=1)


class Columns(NamedTuple):
    """What each part of a frame is multiplied with, [width, part's width]."""

    state: Tensor
    voice: Tensor
    code: Tensor
    speaker: Tensor


class _InputEmbedding(nn.Module):
    """What is known of a frame: its state, the voice that `spk_encoder` hears, the code, the checkpoint's voice."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self._widths = (
            config.get("mel_dim", 80),
            config.get("enc_dim", 128),
            config.get("emb_dim", 512),
            config.get("enc_emb_dim", 192),
        )
        self.proj = Linear(sum(self._widths), width)
        self.spk_encoder = SpeakerEncoder(config)

    @property
    def columns(self) -> Columns:
        """The matrix `proj`, apart."""
        return Columns(*self.proj.weight.split(self._widths, dim=1))
