"""The flow's network: what it consists of (DiT, Peebles and Xie 2022; conditioned as in F5-TTS, Chen et al. 2024).

A transformer over frames of a spectrogram whose norms are set by the time between noise and sound. The parameters have
the checkpoint's names, but for those that lie in one (`STACKS`). How a slope is computed with them is `flow`'s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.layers.modules import Embedding, Linear
from tutti.models.qwen2_5_omni.voiceprint import SpeakerEncoder
from tutti.models.reading import Config

STACKS = {"to_qkv": ("to_q", "to_k", "to_v")}
"""For `towers.fill`."""

_EPS = 1e-6
_TIMES = 256  # sines and cosines that a time becomes
_TIME_SCALE = 1000


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

    def rotation(self, frames: int) -> tuple[Tensor, Tensor]:
        """cos and sin of every frame's position, float32 [frames, head_dim / 2], on the weights' device."""
        device = self.proj_out.weight.device
        exponents = torch.arange(0, self.head_dim, 2, device=device).float() / self.head_dim
        angles = torch.arange(frames, device=device)[:, None] * (1.0 / self.base**exponents)
        return angles.cos(), angles.sin()


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
    """norm(x) * (1 + scale) + shift over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift


class Block(nn.Module):
    """A layer; its attention sees `back` blocks of frames before its own and `ahead` behind it."""

    def __init__(self, width: int, inner: int, multiple: float, back: int, ahead: int) -> None:
        super().__init__()
        self.back, self.ahead = back, ahead
        self.attn_norm = AdaptiveNorm(width, 6)
        self.attn = Attention(width, inner)
        self.ff = _FeedForward(width, int(width * multiple))


class Attention(nn.Module):
    """Queries, keys and values in one product, and the way out."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_qkv = Linear(width, 3 * inner)
        self.to_out = nn.Sequential(Linear(inner, width))


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        unused = nn.Identity()  # dropout, in training
        self.ff = nn.Sequential(
            Linear(width, inner), nn.GELU(approximate="tanh"), unused, Linear(inner, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ff(x)
        return out


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


class _InputEmbedding(nn.Module):
    """What is known of a frame: its state, the voice that `spk_encoder` hears, the code, the checkpoint's voice."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        voice, code = config.get("enc_dim", 128), config.get("emb_dim", 512)
        speaker = config.get("enc_emb_dim", 192)
        self.proj = Linear(config.get("mel_dim", 80) + voice + code + speaker, width)
        self.spk_encoder = SpeakerEncoder(config)
