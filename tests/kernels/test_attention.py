"""Attention of whole rows: every form equals the reference in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tutti.kernels import attention, reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-3}  # of the size of the whole
LENGTHS = ([1], [5], [32], [33, 1, 64, 100], [300], [0, 40], [700, 20])


def made(lengths: list[int], heads: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """As views of one tensor, as a network's projections may be."""
    q, k, v = torch.randn(sum(lengths), heads, 3 * dim).to(dtype).split(dim, -1)
    return q * 3, k, v


def difference(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("dim", [32, 40, 64, 128, 256])
def test_rows_look_at_themselves(operations: Any, dim: int, dtype: torch.dtype) -> None:
    for lengths in LENGTHS:
        q, k, v = made(lengths, 3, dim, dtype)
        got = operations.attention(q, k, v, lengths, 0.11)
        assert got.dtype == dtype and got.shape == q.shape
        wanted = reference.attention(q.double(), k.double(), v.double(), lengths, 0.11)
        assert difference(got, wanted) < TOLERANCE[dtype]


def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_threads(native_operations: Any) -> None:
    own = torch.get_num_threads()
    lengths = [90, 600, 7]
    q, k, v = made(lengths, 2, 64, torch.bfloat16)
    try:
        torch.set_num_threads(3)
        together = native_operations.attention(q, k, v, lengths, 0.125).split(lengths)
    finally:
        torch.set_num_threads(own)
    for row, *parts in zip(together, *(one.split(lengths) for one in (q, k, v)), strict=True):
        assert torch.equal(native_operations.attention(*parts, [len(row)], 0.125), row)


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_scores_may_be_very_small_or_large(operations: Any, size: float) -> None:
    q, k, v = made([400], 1, 64, torch.bfloat16)
    wanted = reference.attention((q * size).double(), k.double(), v.double(), [400], 1.0)
    assert difference(operations.attention(q * size, k, v, [400], 1.0), wanted) < 2e-2


def test_what_is_not_a_number_stays_in_its_row_and_head(operations: Any) -> None:
    q, k, v = (one.clone() for one in made([40, 40], 2, 64, torch.bfloat16))
    q[3, 0, 5] = float("nan")
    found = operations.attention(q, k, v, [40, 40], 0.125).isnan().any(-1)
    assert found[3, 0]
    assert not found[40:].any() and not found[:, 1].any()


def test_rows_that_are_not_those_of_the_tensors_are_refused() -> None:
    q, k, v = made([40], 2, 64, torch.bfloat16)
    with pytest.raises(ValueError, match=r"40 tokens, in rows of \[50\]"):
        attention(q, k, v, [50])
    with pytest.raises(ValueError, match="keys and values are as queries are"):
        attention(q, k[:30], v[:30], [40])
