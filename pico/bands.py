"""Mel bands, for who hears pico and for who makes its sound."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def mel_bands(rate: int, window: int, count: int) -> Tensor:
    """`count` triangles, evenly spaced on the mel scale up to half of `rate`: float32 [count, frequencies of a window]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), count + 2) / 2595) - 1)
    at = np.linspace(0, rate / 2, window // 2 + 1)[None]
    low, middle, high = (edges[i : i + count, None] for i in range(3))
    triangles = np.maximum(0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle)))
    return torch.tensor(triangles, dtype=torch.float32)
