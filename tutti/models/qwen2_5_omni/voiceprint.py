"""The speaker encoder: a voice's spectrogram to one vector.

ECAPA-TDNN (Desplanques et al. 2020, arXiv 2005.07143): dilated convolutions, whose channels hear each other in stages
(Res2Net, Gao et al. 2019) and are weighed (squeeze and excitation, Hu et al. 2018); then mean and deviation over time,
with weights of its own for every channel. The parameters have the checkpoint's names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.layers.modules import Conv1d
from tutti.models.reading import Config

_LEAST_VARIANCE = 1e-12


class SpeakerEncoder(nn.Module):
    """The encoder."""

    def __init__(self, config: Config) -> None:
        """`config`: the section `dit_config` of config.json."""
        super().__init__()
        channels = config.get("enc_channels", (256, 256, 256, 256, 768))
        sizes = config.get("enc_kernel_sizes", (5, 3, 3, 3, 1))
        dilations = config.get("enc_dilations", (1, 2, 3, 4, 1))
        first = _Convolution(config.get("mel_dim", 80), channels[0], sizes[0], dilations[0])
        inner = range(1, len(channels) - 1)
        blocks = (_Block(config, channels[i - 1], channels[i], sizes[i], dilations[i]) for i in inner)
        self.blocks = nn.ModuleList([first, *blocks])
        self.mfa = _Convolution(channels[-1], channels[-1], sizes[-1], dilations[-1])
        self.asp = _Statistics(channels[-1], config.get("enc_attention_channels", 64))
        self.fc = Conv1d(2 * channels[-1], config.get("enc_dim", 128), 1)

    def forward(self, mel: Tensor) -> Tensor:
        """[voices, frames, bands] -> [voices, enc_dim]."""
        x = mel.transpose(1, 2)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        voices: Tensor = self.fc(self.asp(self.mfa(torch.cat(found[1:], dim=1)))).squeeze(2)
        return voices


class _Convolution(nn.Module):
    """As many frames come out as went in; the ends are mirrored."""

    def __init__(self, channels: int, out: int, size: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = Conv1d(channels, out, size, dilation=dilation, padding="same", padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class _Block(nn.Module):
    def __init__(self, config: Config, channels: int, out: int, size: int, dilation: int) -> None:
        super().__init__()
        self.tdnn1 = _Convolution(channels, out, 1)
        self.res2net_block = _Staged(out, config.get("enc_res2net_scale", 2), size, dilation)
        self.tdnn2 = _Convolution(out, out, 1)
        self.se_block = _Weighed(out, config.get("enc_se_channels", 64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))
        return out


class _Staged(nn.Module):
    """The channels in groups: the first passes, each other one is convolved with what came of the one before it."""

    def __init__(self, channels: int, groups: int, size: int, dilation: int) -> None:
        super().__init__()
        self.groups = groups
        width = channels // groups
        self.blocks = nn.ModuleList(_Convolution(width, width, size, dilation) for _ in range(groups - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = x.chunk(self.groups, dim=1)
        found = [first]
        for place, (block, part) in enumerate(zip(self.blocks, others, strict=True)):
            found.append(block(part + found[-1] if place else part))
        return torch.cat(found, dim=1)


class _Weighed(nn.Module):
    """Every channel times a number between 0 and 1, which the channels' means decide."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = Conv1d(channels, inner, 1)
        self.conv2 = Conv1d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=2, keepdim=True)
        return x * self.conv2(F.relu(self.conv1(means))).sigmoid()


class _Statistics(nn.Module):
    """[voices, channels, frames] -> mean and deviation [voices, 2 * channels, 1] over the frames that matter."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.tdnn = _Convolution(3 * channels, inner, 1)
        self.conv = Conv1d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        plain = _statistics(x, torch.full_like(x[:1, :1], 1 / x.shape[2])).expand(-1, -1, x.shape[2])
        scores = self.conv(self.tdnn(torch.cat([x, plain], dim=1)).tanh())
        return _statistics(x, scores.softmax(dim=2))


def _statistics(x: Tensor, weights: Tensor) -> Tensor:
    """Mean and deviation over the last dimension, with weights that sum to one: [voices, 2 * channels, 1]."""
    mean = (weights * x).sum(2, keepdim=True)
    variance = (weights * (x - mean).square()).sum(2, keepdim=True)
    return torch.cat([mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()], dim=1)
