"""The audio encoder's network: log-mel spectrograms to rows, one for every four frames (arXiv 2503.20215, 2.1).

Whisper's encoder (Radford et al. 2022) but for two things: a recording is cut into windows, which go through
convolutions and attention by themselves, each with positions from zero; and neighbouring moments become one row at the
end. The parameters have the checkpoint's names. Its two embeddings `audio_bos_eos_token`, which no row is made of, are
left where they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.kernels import activate
from tutti.layers.modules import Conv1d, LayerNorm, Linear
from tutti.layers.windows import Windows
from tutti.models import reading
from tutti.models.reading import Config


class Ears(nn.Module):
    """The encoder; a window is `window` frames."""

    positions: Tensor

    def __init__(self, config: Config) -> None:
        """`config`: the section `audio_config` of config.json."""
        super().__init__()
        width = config.get("d_model", 1280)
        half = config.get("n_window", 100)
        self.window = 2 * half
        self.conv1 = Conv1d(config.get("num_mel_bins", 128), width, 3, padding=1)
        self.conv2 = Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(_Layer(config, width) for _ in range(config.get("encoder_layers", 32)))
        self.ln_post = LayerNorm(width)
        self.proj = Linear(width, config.get("output_dim", 3584))
        self.register_buffer("positions", sinusoids(half, width), persistent=False)

    def forward(self, mels: list[Tensor]) -> list[Tensor]:
        """Rows [frames / 4, hidden] of each spectrogram [bands, frames], on the weights' device and in their dtype."""
        pieces = [piece for mel in mels for piece in mel.split(self.window, dim=1)]
        moments = [_halved(piece.shape[1]) for piece in pieces]
        windows = Windows(moments)
        convolved = zip(self._convolved(pieces), moments, strict=True)
        x = torch.cat([piece[:count] for piece, count in convolved])
        for layer in self.layers:
            x = layer(x, windows)
        heard = x.split([_halved(mel.shape[1]) for mel in mels])
        counts = [len(one) // 2 for one in heard]
        pairs = torch.cat([one[: 2 * count] for one, count in zip(heard, counts, strict=True)])
        rows: Tensor = self.proj(self.ln_post((pairs[0::2] + pairs[1::2]) / 2))
        return list(rows.split(counts))

    def _convolved(self, pieces: list[Tensor]) -> Tensor:
        """Two moments of four frames, and where in the window they are: [pieces, moments, width]."""
        lengths = torch.tensor([piece.shape[1] for piece in pieces])
        longest = int(lengths.max())
        inside = (torch.arange(longest) < lengths[:, None])[:, None].to(pieces[0].device)
        mels = torch.stack([F.pad(piece, (0, longest - piece.shape[1])) for piece in pieces])
        x = F.gelu(self.conv1(mels)) * inside  # behind its end a piece is silent for both convolutions
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        return x + self.positions[: x.shape[1]].to(x.dtype)


class _Layer(nn.Module):
    """x + attention(norm(x)), then x + ff(norm(x))."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        inner = config.get("encoder_ffn_dim", 5120)
        self.activation = reading.activation(config, "activation_function", default="gelu")
        self.self_attn = _Attention(width, config.get("encoder_attention_heads", 20))
        self.self_attn_layer_norm = LayerNorm(width)
        self.fc1 = Linear(width, inner)
        self.fc2 = Linear(inner, width)
        self.final_layer_norm = LayerNorm(width)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), windows)
        x = x + self.fc2(activate(self.fc1(self.final_layer_norm(x)), self.activation))
        if x.dtype == torch.float16:  # Whisper's way to stay finite
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x


class _Attention(nn.Module):
    """Within windows; keys have no bias, which would shift all of a query's scores alike."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        q, k, v = (p(x).unflatten(1, (self.heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(windows.attend(q, k, v))
        return out


def sinusoids(length: int, width: int) -> Tensor:
    """Positions as Whisper has them, float32 [length, width]: sines, then cosines, of wavelengths up to 20,000 pi."""
    half = width // 2
    speeds = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half).float())
    angles = torch.arange(length)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _halved(frames: int) -> int:
    """Moments that the second convolution makes of so many frames."""
    return (frames + 1) // 2
