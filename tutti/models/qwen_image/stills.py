"""A film's VAE that has to do with single pictures only: what diffusers' class makes of one frame, with less work.

A picture is the first frame of a film: before it there is nothing, so that of the three slices of a convolution over
time two meet zeros. They are left out, and what is left is a convolution of pictures, with a third of the weights.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.kernels import rms_norm
from tutti.models.drawing.blocks import replace_forward

_EPS = 1e-24  # of a mean square: as diffusers', nothing


class StillConv(nn.Module):
    """The last slice of a causal convolution over time, for [pictures, channels, 1, height, width]."""

    def __init__(self, convolution: Any) -> None:
        """`convolution` is diffusers' `QwenImageCausalConv3d`."""
        super().__init__()
        last = convolution.weight[:, :, -1].contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(last, requires_grad=False)
        self.bias = convolution.bias
        self.stride = convolution.stride[1:]
        self.padding = (convolution._padding[2], convolution._padding[0])

    def forward(self, x: Tensor) -> Tensor:
        """`x` as above."""
        return F.conv2d(x[:, :, 0], self.weight, self.bias, self.stride, self.padding)[:, :, None]


def keep_to_stills(vae: Any) -> Any:
    """diffusers' `AutoencoderKLQwenImage`, from now on for single pictures only."""
    for parent in list(vae.modules()):
        for name, child in parent.named_children():
            if name == "time_conv":  # between frames
                setattr(parent, name, nn.Identity())
            elif type(child).__name__ == "QwenImageCausalConv3d":
                setattr(parent, name, StillConv(child))
    vae.clear_cache = MethodType(_forget, vae)
    replace_forward(_of(vae, "QwenImageRMS_norm"), _norm)
    replace_forward(_of(vae, "QwenImageUpsample"), _upsample)
    return vae


def _forget(vae: Any) -> None:
    """Instead of the class's: of no frame anything is kept for the next one."""
    vae._feat_map = vae._enc_feat_map = None


def _of(vae: Any, kind: str) -> list[Any]:
    return [module for module in vae.modules() if type(module).__name__ == kind]


def _norm(norm: Any, x: Tensor) -> Tensor:
    """`x` [pictures, channels, ...] by the root of its channels' mean square."""
    rows = x.movedim(1, -1)
    normed = rms_norm(rows.reshape(-1, rows.shape[-1]), norm.gamma.flatten(), _EPS)
    return normed.view(rows.shape).movedim(-1, 1)


def _upsample(layer: Any, x: Tensor) -> Tensor:
    """Each pixel of `x` [pictures, channels, height, width] four times."""
    rows = x.movedim(1, -1)
    pictures, height, width, channels = rows.shape
    larger = rows[:, :, None, :, None].expand(pictures, height, 2, width, 2, channels)
    return larger.reshape(pictures, 2 * height, 2 * width, channels).movedim(-1, 1)
