"""The vocoder: a log-mel spectrogram to samples. BigVGAN (Lee et al. 2023, arXiv 2206.04658).

Transposed convolutions make frames into samples; behind each, residual blocks with periodic activations give the waves
their shape. An activation makes frequencies that the rate cannot hold, so each is applied at twice the rate, between
filters (Karras et al. 2021). The parameters have the checkpoint's names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.layers.modules import Conv1d, ConvTranspose1d
from tutti.models.reading import Config

_TAPS = 12
_LOWEST = -115.0  # decibels
_REFERENCE = 20.0  # decibels
_NO_ZERO = 1e-9


class Vocoder(nn.Module):
    """The network."""

    def __init__(self, config: Config) -> None:
        """`config`: the section `bigvgan_config` of config.json."""
        super().__init__()
        channels = config.get("upsample_initial_channel", 1536)
        rates = config.get("upsample_rates", (5, 3, 2, 2, 2, 2))
        sizes = config.get("upsample_kernel_sizes", (11, 7, 4, 4, 4, 4))
        kernels = config.get("resblock_kernel_sizes", (3, 7, 11))
        dilations = config.get("resblock_dilation_sizes", ((1, 3, 5),) * 3)
        self.blocks = len(kernels)  # behind each transposed convolution
        self.conv_pre = Conv1d(config.get("mel_dim", 80), channels, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(rates, sizes, strict=True):
            padding = (size - rate) // 2
            up = ConvTranspose1d(channels, channels // 2, size, rate, padding=padding)
            channels //= 2
            self.ups.append(nn.Sequential(up))
            self.resblocks.extend(
                _Block(channels, kernel, spread) for kernel, spread in zip(kernels, dilations, strict=True)
            )
        self.activation_post = _Activation(channels)
        self.conv_post = Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, mel: Tensor) -> Tensor:
        """`mel` float32 [answers, bands, frames] (logarithms of amplitudes) -> [answers, samples] in [-1, 1]."""
        x = self.conv_pre(_normalized(mel))
        for stage, up in enumerate(self.ups):
            x = up(x)
            blocks = self.resblocks[stage * self.blocks : (stage + 1) * self.blocks]
            x = sum((block(x) for block in blocks[1:]), blocks[0](x)) / self.blocks
        samples: Tensor = self.conv_post(self.activation_post(x))[:, 0]
        return samples.clamp(-1, 1)


def _normalized(mel: Tensor) -> Tensor:
    """Decibels of the amplitudes, from the lowest to none as -1 to 1."""
    decibels = (mel * (20 / math.log(10))).clamp(min=_LOWEST) - _REFERENCE
    return (2 * (decibels - _LOWEST) / -_LOWEST - 1).clamp(-1, 1)


class _Block(nn.Module):
    """x + what two convolutions make of it, the first with gaps of `spread` samples; once for each spread."""

    def __init__(self, channels: int, size: int, spreads: Sequence[int]) -> None:
        super().__init__()

        def convolution(spread: int) -> Conv1d:
            return Conv1d(channels, channels, size, dilation=spread, padding=(size - 1) * spread // 2)

        self.convs1 = nn.ModuleList(convolution(spread) for spread in spreads)
        self.convs2 = nn.ModuleList(convolution(1) for _ in spreads)
        self.activations = nn.ModuleList(_Activation(channels) for _ in range(2 * len(spreads)))

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.activations[::2], self.convs1, self.activations[1::2], self.convs2, strict=True)
        for bend, spread, bend_again, close in pairs:
            x = x + close(bend_again(spread(bend(x))))
        return x


class _Activation(nn.Module):
    """`act` at twice the rate.

    The samples in between and those of before are kept apart as two halves: every other tap of the filter makes each
    from x, and every other tap brings each back, without a zero that is multiplied or a sample that is thrown away.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = _Snake(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[answers, channels, samples] -> the same shape."""
        reach = _TAPS // 4
        wide = F.pad(x, (reach, reach), mode="replicate")
        first = self.act(_filtered(wide[..., :-1], _EVEN_TAPS, 2))
        second = self.act(_filtered(wide[..., 1:], _ODD_TAPS, 2))
        start, end = first[..., :1], second[..., -1:]  # the doubled signal goes on so beyond its ends

        def widened(half: Tensor, before: int) -> Tensor:
            parts = (start.expand(-1, -1, before), half, end.expand(-1, -1, _TAPS // 2 - 1 - before))
            return torch.cat(parts, dim=2)

        even = _filtered(widened(first, reach - 1), _ODD_TAPS)
        return even.add_(_filtered(widened(second, reach), _EVEN_TAPS))


class _Snake(nn.Module):
    """x + sin^2(a x) / b for each channel (Ziyin et al. 2020); a and b are kept as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        speed, height = self.alpha.exp()[:, None], 1 / (self.beta.exp() + _NO_ZERO)[:, None]
        return (x * speed).sin_().square_().mul_(height).add_(x)


def _filtered(x: Tensor, taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """The sum of x's neighbours times the taps: [..., samples + taps - 1] -> [..., samples].

    As sums of shifted tensors, since convolutions of single channels are slow on CPUs.
    """
    samples = x.shape[-1] - len(taps) + 1
    out = x[..., :samples] * (taps[0] * gain)
    for shift, tap in enumerate(taps[1:], start=1):
        out.add_(x[..., shift : shift + samples], alpha=tap * gain)
    return out


def low_pass() -> list[float]:
    """A filter at half the band: a sinc under Kaiser's window (Kaiser 1974), whose taps sum to one."""
    half = _TAPS // 2
    transition = 4 * 0.6 / 2
    attenuation = 2.285 * (half - 1) * math.pi * transition + 7.95  # decibels: 51
    window = torch.kaiser_window(_TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7))
    taps = window * torch.sinc((torch.arange(-half, half) + 0.5) / 2)
    values: list[float] = (taps / taps.sum()).tolist()
    return values


_EVEN_TAPS, _ODD_TAPS = low_pass()[0::2], low_pass()[1::2]
