"""Quantizing: bit for bit what the `gguf` package writes where it has the type, and within stated errors elsewhere."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.dequantize import dequantize
from tutti.formats.gguf.blocks.kinds import BlockType, fitting
from tutti.formats.gguf.blocks.pack import PACK
from tutti.formats.gguf.blocks.quantize import SLICE, TARGETS, quantize
from tutti.formats.gguf.blocks.unpack import UNPACK

K_TYPES = [kinds.Q2_K, kinds.Q3_K, kinds.Q4_K, kinds.Q5_K, kinds.Q6_K]
SAME_AS_PACKAGE = [kind for kind in TARGETS if kind not in K_TYPES]

# The root mean square of the error over that of normally distributed values: what each type promises.
BOUNDS = {
    kinds.F32: 0.0,
    kinds.F16: 0.0003,
    kinds.BF16: 0.002,
    kinds.Q8_0: 0.006,
    kinds.Q6_K: 0.0185,
    kinds.Q5_K: 0.038,
    kinds.Q5_1: 0.039,
    kinds.Q5_0: 0.044,
    kinds.Q4_K: 0.075,
    kinds.Q4_1: 0.080,
    kinds.Q4_0: 0.090,
    kinds.Q3_K: 0.155,
    kinds.Q2_K: 0.29,
}


def name_of(kind: BlockType) -> str:
    return kind.name


def normal(rows: int = 64, columns: int = 1024, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def error(x: Tensor, kind: BlockType) -> float:
    return rms(dequantize(quantize(x, kind), kind) - x) / rms(x)


def plainly(x: Tensor, kind: BlockType) -> Tensor:
    """Rounded between each group's smallest and largest value, with exact scales: what search should improve on."""
    codes = UNPACK[kind](quantize(x, kind).reshape(-1, kind.nbytes))
    groups = x.reshape(-1, kind.elements // codes.scale.shape[1])
    if codes.shift is None:
        largest = groups.gather(1, groups.abs().argmax(1, keepdim=True))
        scale, low = largest / -codes.zero, torch.zeros(())
        rounded = (groups / scale).round().clamp(-codes.zero, codes.zero - 1)
    else:
        low = groups.amin(1, keepdim=True)
        scale = (groups.amax(1, keepdim=True) - low) / (2**codes.bits - 1)
        rounded = ((groups - low) / scale).round()
    return (rounded * scale + low).view_as(x)


@pytest.mark.parametrize("kind", SAME_AS_PACKAGE, ids=name_of)
@pytest.mark.parametrize("scale", [1.0, 0.02, 1e-3, 300.0])
def test_blocks_equal_the_packages_bit_for_bit(kind: BlockType, scale: float) -> None:
    x = normal(40, 512, seed=kind.id) * scale
    x[3] = 0
    x[4] = -scale
    x[5, ::3] = 0
    x[6] = x[6].round(decimals=1) + 0.0  # equal values; no zero of both signs, of which either is the smaller
    theirs = gguf.quants.quantize(x.numpy(), gguf.GGMLQuantizationType(kind.id))
    assert torch.equal(quantize(x, kind), torch.from_numpy(theirs.view(np.uint8)))


@pytest.mark.parametrize("kind", TARGETS, ids=name_of)
def test_the_error_stays_within_the_types_bound(kind: BlockType) -> None:
    for scale in (1.0, 0.02):
        assert error(normal() * scale, kind) <= BOUNDS[kind]


@pytest.mark.parametrize("kind", K_TYPES, ids=name_of)
@pytest.mark.parametrize("shape", ["normal", "uniform", "heavy", "positive"])
def test_searched_scales_lose_less_than_plain_rounding(kind: BlockType, shape: str) -> None:
    x = normal(seed=7)
    x = {
        "normal": x,
        "uniform": torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 0.5,
        "heavy": x * x.abs(),
        "positive": x.abs(),
    }[shape]
    assert rms(dequantize(quantize(x, kind), kind) - x) <= rms(plainly(x, kind) - x)


@pytest.mark.parametrize("kind", TARGETS, ids=name_of)
def test_zeros_stay_zeros_and_what_is_exact_stays_exact(kind: BlockType) -> None:
    x = torch.zeros(2, 512)
    assert torch.equal(dequantize(quantize(x, kind), kind), x)
    for constant in (1.0, -1.0, 0.5):
        values = dequantize(quantize(torch.full((2, 512), constant), kind), kind)
        assert (values - constant).abs().max() <= 0.01 * abs(constant)


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if kind.quantized], ids=name_of)
@given(seed=st.integers(0, 2**31), exponent=st.integers(-30, 3), holes=st.booleans())
def test_every_error_is_below_a_step_of_its_block(
    kind: BlockType, seed: int, exponent: int, holes: bool
) -> None:
    """Whatever the magnitude: tiny values, which float16 scales cannot hold, become zero, never nonsense."""
    x = normal(2, 256, seed) * 10.0**exponent
    if holes:
        x[:, ::5] = 0
        x[0, 0] *= 50
    steps = 2.0 ** {kinds.Q8_0: 7, kinds.Q6_K: 5, kinds.Q5_K: 4, kinds.Q5_0: 4, kinds.Q5_1: 4}.get(kind, 3)
    steps = {kinds.Q3_K: 3.0, kinds.Q2_K: 1.5}.get(kind, steps)
    worst = (dequantize(quantize(x, kind), kind) - x).abs().max()
    assert worst <= x.abs().max() * 1.1 / steps + 4e-6


@pytest.mark.parametrize("kind", PACK, ids=name_of)
def test_quantizing_again_what_was_dequantized_changes_little(kind: BlockType) -> None:
    once = dequantize(quantize(normal(), kind), kind)
    assert error(once, kind) <= BOUNDS[kind] / 2


@pytest.mark.parametrize("kind", TARGETS, ids=name_of)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(kind: BlockType, value: float) -> None:
    x = normal(2, 256)
    x[1, 17] = value
    with pytest.raises(CheckpointError, match="not finite"):
        quantize(x, kind)


@pytest.mark.parametrize(
    "kind", [kind for kind in TARGETS if kind not in (kinds.F32, kinds.BF16)], ids=name_of
)
def test_values_too_large_for_half_precision_scales_are_refused(kind: BlockType) -> None:
    x = normal(2, 256) * 1e30
    with pytest.raises(CheckpointError, match=f"too large for the type {kind.name}"):
        quantize(x, kind)


def test_rows_that_are_no_whole_blocks_are_refused_and_have_another_type() -> None:
    with pytest.raises(CheckpointError, match="row of 96 elements"):
        quantize(normal(2, 96), kinds.Q4_K)
    with pytest.raises(CheckpointError, match="can be read but not made"):
        quantize(normal(2, 256), kinds.IQ2_XS)
    assert fitting(kinds.Q4_K, 512) is kinds.Q4_K
    assert [fitting(kind, 96) for kind in (kinds.Q4_K, kinds.Q5_K, kinds.Q6_K, kinds.Q8_0)] == [
        kinds.Q5_0,
        kinds.Q5_1,
        kinds.Q8_0,
        kinds.Q8_0,
    ]
    assert fitting(kinds.Q4_K, 40) is fitting(kinds.Q8_0, 40) is kinds.F16


@pytest.mark.parametrize("kind", [kinds.Q4_K, kinds.Q8_0], ids=name_of)
def test_slices_leave_no_seam(kind: BlockType) -> None:
    x = normal(3 * SLICE // 1024 + 1)
    packed = quantize(x, kind)
    for row in (0, SLICE // 1024 - 1, SLICE // 1024, len(x) - 1):
        assert torch.equal(packed[row : row + 1], quantize(x[row : row + 1], kind))
    assert torch.equal(quantize(x.view(1, -1, 1024), kind), packed[None])
    assert torch.equal(quantize(x.bfloat16(), kind), quantize(x.bfloat16().float(), kind))
