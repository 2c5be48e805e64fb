"""Attention within windows: rows of one window look at all of it, and at nothing else.

Encoders compute pictures and recordings of all sizes together, as rows that follow each other. Windows of one length
that follow each other are one batch: there is no padding and no mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


class Windows:
    """Rows cut into windows."""

    def __init__(self, lengths: Iterable[int]) -> None:
        """`lengths` are the windows' rows, in order."""
        self._runs = [(len(list(run)), length) for length, run in itertools.groupby(lengths)]
        self._sizes = [count * length for count, length in self._runs]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(dim)) v in each window: [rows, heads, dim], thrice -> [rows, heads * dim]."""
        attended = []
        for run, *parts in zip(self._runs, *(x.split(self._sizes) for x in (q, k, v)), strict=True):
            queries, keys, values = (part.unflatten(0, run).transpose(1, 2) for part in parts)
            heads = F.scaled_dot_product_attention(queries, keys, values)
            attended.append(heads.transpose(1, 2).flatten(0, 1).flatten(1))
        return torch.cat(attended)
