"""Latents as the tokens of a transformer: patches of two by two, each with its channels' values."""

from __future__ import annotations

from torch import Tensor


def to_tokens(latents: Tensor) -> Tensor:
    """[..., channels, rows, columns] as [..., rows / 2 * columns / 2, 4 * channels]."""
    patches = latents.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2))  # [..., c, r, 2, k, 2]
    return patches.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def to_latents(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """[..., rows * columns, 4 * channels] as [..., channels, 2 * rows, 2 * columns]: `to_tokens` undone."""
    patches = tokens.unflatten(-2, (rows, columns)).unflatten(-1, (-1, 2, 2))  # [..., r, k, c, 2, 2]
    return patches.movedim((-5, -4), (-4, -2)).flatten(-2).flatten(-3, -2)
