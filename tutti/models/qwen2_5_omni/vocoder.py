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

from tutti.kernels import snake
from tutti.layers.modules import Conv1d, ConvTranspose1d
from tutti.models.reading import Config

_TAPS = 12  # of the filters
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
    """`act` at twice the rate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = _Snake(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[answers, channels, samples] -> the same shape."""
        speed, height = self.act.alpha.exp(), 1 / (self.act.beta.exp() + _NO_ZERO)
        return snake(x, speed, height, _LOW_PASS.to(x.device))


class _Snake(nn.Module):
    """The activation's speed and height for each channel, kept as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels))


def _low_pass() -> Tensor:
    """A filter at half the band: a sinc under Kaiser's window (Kaiser 1974), whose taps sum to one."""
    half = _TAPS // 2
    transition = 4 * 0.6 / 2
    attenuation = 2.285 * (half - 1) * math.pi * transition + 7.95  # decibels: 51
    window = torch.kaiser_window(_TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7))
    taps = window * torch.sinc((torch.arange(-half, half) + 0.5) / 2)
    return taps / taps.sum()


_LOW_PASS = _low_pass()
