"""Qwen2.5-Omni's vocoder on a batch of spectrograms, as training needs it: the same function as transformers' class.

Most of it is snakes between filters that double the rate of samples and halve it again. Those filters are sums of a few
shifted signals here, the even samples of the doubled rate apart from the odd ones, so that a compiler makes one loop of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniToken2WavBigVGANModel

Through = Callable[[nn.Module, Tensor], Tensor]


def sound(vocoder: Qwen2_5OmniToken2WavBigVGANModel, spectra: Tensor, through: Through) -> Tensor:
    """Samples [batch, samples] of spectrograms float32 [batch, bands, frames]; `through` is `through_activation`, or the same
    compiled."""
    x = vocoder.conv_pre(vocoder.process_mel_spectrogram(spectra))
    alike = vocoder.num_residual_blocks
    for index, ups in enumerate(vocoder.ups):
        x = ups[0](x)
        blocks = vocoder.resblocks[index * alike : (index + 1) * alike]
        x = torch.stack([_through_block(block, x, through) for block in blocks]).mean(0)
    x = vocoder.conv_post(through(vocoder.activation_post, x))
    return x.clamp(-1, 1).squeeze(1)


def _through_block(block: nn.Module, x: Tensor, through: Through) -> Tensor:
    first, second = block.activations[::2], block.activations[1::2]
    for conv1, conv2, act1, act2 in zip(block.convs1, block.convs2, first, second, strict=True):
        x = x + conv2(through(act2, conv1(through(act1, x))))
    return x


def through_activation(activation: nn.Module, x: Tensor) -> Tensor:
    """`x` [batch, channels, samples] through a snake at twice the rate, like `x`."""
    double, halve = activation.upsample.filter.flatten() * 2, activation.downsample.filter.flatten()
    samples = x.shape[2]

    def shifted(padded: Tensor, taps: Tensor, begin: int = 0) -> Tensor:
        return sum(
            (tap * padded[..., at : at + samples] for at, tap in enumerate(taps, begin)), torch.zeros(())
        )

    padded = F.pad(x.float(), (3, 3), mode="replicate")
    even = _snake(activation.act, shifted(padded, double.flip(0)[0::2]))
    odd = _snake(activation.act, shifted(padded, double.flip(0)[1::2], 1))
    before, behind = even[..., :1], odd[..., -1:]
    even = torch.cat([before.expand(-1, -1, 2), even, behind.expand(-1, -1, 3)], 2)
    odd = torch.cat([before.expand(-1, -1, 3), odd, behind.expand(-1, -1, 2)], 2)
    return (shifted(even, halve[1::2]) + shifted(odd, halve[0::2])).to(x.dtype)


def _snake(snake: nn.Module, x: Tensor) -> Tensor:
    """`x` + sin^2(`x` a) / b (Ziyin et al. 2020)."""
    a, b = snake.alpha.exp()[:, None], snake.beta.exp()[:, None]
    return x + (x * a).sin().square() / (b + snake.no_div_by_zero)
