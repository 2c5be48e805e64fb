"""Scales for groups of values: the ones whose rounded codes lose least, found by weighted least squares.

The method of llama.cpp's K types (https://github.com/ggml-org/llama.cpp/pull/1684): round with several trial scales
around the obvious one; for the codes that each gives, the best scale (and minimum) has a closed form; keep the best of
all. Large values weigh more: weight = sqrt(mean(x^2)) + |x|. Groups are brought to a largest value of 1 first, so that
squares neither vanish nor overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

TRIALS = 13  # scales tried besides the obvious one
REACH = 1.0  # how far the trials' largest code lies from the true one, in codes


def with_minimum(x: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """For x ~ scale * code - minimum, codes 0 to `top`: `x` float32 [..., group] -> scale, minimum [...], both >= 0."""
    x, size = _normalized(x)
    weight = _weight(x)
    low, high = x.amin(-1, keepdim=True).clamp_(max=0), x.amax(-1, keepdim=True)
    span = high - low  # 0 where all values are one that is not positive: the minimum says it all
    best_scale, best_low = span / top, low
    best_error = _error(x, weight, _codes(x - low, best_scale, 0, top), best_scale, best_low)
    total, sum_x = weight.sum(-1, keepdim=True), (weight * x).sum(-1, keepdim=True)
    for step in _steps():
        codes = _codes(x - low, span / (top + step), 0, top)
        weighted = weight * codes
        sum_c = weighted.sum(-1, keepdim=True)
        sum_cc = (weighted * codes).sum(-1, keepdim=True)
        sum_cx = (weighted * x).sum(-1, keepdim=True)
        determinant = total * sum_cc - sum_c * sum_c
        scale = _ratio(total * sum_cx - sum_x * sum_c, determinant)
        start = _ratio(sum_cc * sum_x - sum_c * sum_cx, determinant)
        scale = torch.where(start > 0, _ratio(sum_cx, sum_cc), scale)  # a minimum is never negative
        start = start.clamp(max=0)
        error = _error(x, weight, codes, scale, start)
        better = (error < best_error) & (scale > 0)
        best_scale = torch.where(better, scale, best_scale)
        best_low = torch.where(better, start, best_low)
        best_error = torch.where(better, error, best_error)
    return (best_scale * size).squeeze(-1), (-best_low * size).squeeze(-1)


def symmetric(x: Tensor, low: int, high: int) -> Tensor:
    """For x ~ scale * code with codes `low` to `high` (-32 to 31, say): `x` float32 [..., group] -> scale [...].

    The scale may be negative: the largest value takes the code `low`, of which there is one more on its side of zero.
    """
    x, size = _normalized(x)
    weight = _weight(x)
    largest = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    best_scale = largest / low
    best_error = _error(x, weight, _codes(x, best_scale, low, high), best_scale, 0.0)
    for step in _steps():
        codes = _codes(x, largest / (low + step), low, high)
        weighted = weight * codes
        scale = _ratio((weighted * x).sum(-1, keepdim=True), (weighted * codes).sum(-1, keepdim=True))
        error = _error(x, weight, codes, scale, 0.0)
        better = error < best_error
        best_scale = torch.where(better, scale, best_scale)
        best_error = torch.where(better, error, best_error)
    return (best_scale * size).squeeze(-1)


def _steps() -> list[float]:
    return [REACH * (2 * trial / (TRIALS - 1) - 1) for trial in range(TRIALS)]


def _normalized(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` with a largest magnitude of 1 in each group, and what it was [..., 1]."""
    size = x.abs().amax(-1, keepdim=True)
    return _ratio(x, size), size


def _weight(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).sqrt() + x.abs()


def _codes(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    return _ratio(x, scale).round_().clamp_(low, high)


def _ratio(x: Tensor, by: Tensor) -> Tensor:
    """x / by, and 0 where `by` is 0."""
    return torch.where(by == 0, 0.0, x / by)


def _error(x: Tensor, weight: Tensor, codes: Tensor, scale: Tensor, start: Tensor | float) -> Tensor:
    return ((codes * scale + start - x).square_() * weight).sum(-1, keepdim=True)
