"""How alike two pictures are: PSNR, and SSIM (Wang et al. 2004) with its Gaussian window of 11 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d


def read(path: str | Path) -> Tensor:
    """A file's pixels: float64 [3, height, width] in [0, 255]."""
    values = np.asarray(Image.open(path).convert("RGB"))
    return torch.from_numpy(values.copy()).double().permute(2, 0, 1)


def psnr(one: Tensor, other: Tensor) -> float:
    """In decibels; infinite for equal pictures."""
    error = float(((one - other) ** 2).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(one: Tensor, other: Tensor) -> float:
    """The mean over pixels and colours; 1 for equal pictures. Sides of 11 pixels or more."""
    offsets = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def blurred(values: Tensor) -> Tensor:
        return conv2d(values[:, None], window[None, None])[:, 0]

    means = blurred(one), blurred(other)
    spreads = blurred(one * one) - means[0] ** 2, blurred(other * other) - means[1] ** 2
    shared = blurred(one * other) - means[0] * means[1]
    few, more = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * means[0] * means[1] + few) * (2 * shared + more)
    below = (means[0] ** 2 + means[1] ** 2 + few) * (spreads[0] + spreads[1] + more)
    return float((above / below).mean())
