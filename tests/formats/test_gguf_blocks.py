"""Blocks of every type of ggml become the values that the `gguf` package makes of them, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.dequantize import BY_PACKAGE, PLAIN, SLICE, canonical, dequantize
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.unpack import UNPACK
from tutti.kernels import pack_linear
from tutti.kernels import weights as canonical_form

FLOATS = (kinds.F32, kinds.F16, kinds.BF16)
STORED = (*FLOATS, *UNPACK, *BY_PACKAGE)


def rows_of(kind: BlockType, rows: int = 6, blocks: int = 4, seed: int = 0) -> Tensor:
    """Random bytes: every code and scale, subnormal, infinite and undefined ones too."""
    generator = torch.Generator().manual_seed(seed + kind.id)
    return torch.randint(0, 256, (rows, blocks * kind.nbytes), generator=generator, dtype=torch.uint8)


def sane_rows_of(kind: BlockType, rows: int = 6, blocks: int = 2) -> Tensor:
    """Random blocks whose values are finite."""
    data = rows_of(kind, rows * blocks * 4, 1)
    finite = dequantize(data, kind).isfinite().all(-1)
    return data[finite][: rows * blocks].reshape(rows, -1)


def theirs(data: Tensor, kind: BlockType) -> Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(
            gguf.quants.dequantize(data.numpy(), gguf.GGMLQuantizationType(kind.id)).copy()
        )


def same_bits(ours: Tensor, wanted: Tensor) -> bool:
    """Equal to the last bit, the sign of zero included; any NaN equals any other."""
    undefined = ours.isnan()
    if not torch.equal(undefined, wanted.isnan()):
        return False
    return torch.equal(ours[~undefined].view(torch.int32), wanted[~undefined].view(torch.int32))


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.name)
def test_the_table_of_types_is_that_of_the_package(kind: BlockType) -> None:
    number = gguf.GGMLQuantizationType(kind.id)
    assert number.name == kind.name
    if (
        kind is not kinds.Q8_1
    ):  # of activations only; the package has the size it had before its scales were halved
        assert gguf.GGML_QUANT_SIZES[number] == (kind.elements, kind.nbytes)
    assert kinds.by_id(kind.id) is kind


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.name)
def test_values_equal_the_packages_to_the_last_bit(kind: BlockType) -> None:
    for seed in range(4):
        data = rows_of(kind, rows=16, blocks=32, seed=seed)
        assert same_bits(dequantize(data, kind), theirs(data, kind))


@pytest.mark.parametrize("kind", [*FLOATS, *UNPACK], ids=lambda kind: kind.name)
def test_the_canonical_form_has_the_same_values(kind: BlockType) -> None:
    data = rows_of(kind, rows=5, blocks=8)
    form = canonical(data, kind)
    assert form.shape == (5, 8 * kind.elements)
    assert same_bits(canonical_form.dequantize(form), dequantize(data, kind))


@pytest.mark.parametrize(
    ("kind", "most"), [(kinds.Q4_0, 5.0), (kinds.Q4_K, 6.0), (kinds.Q8_0, 8.5), (kinds.Q2_K, 6.0)]
)
def test_the_canonical_form_keeps_codes_packed(kind: BlockType, most: float) -> None:
    form = canonical(rows_of(kind, rows=8, blocks=8), kind)
    assert isinstance(form, canonical_form.Quantized)
    tensors = (form.q, form.scale, form.zero, form.shift)
    held = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    assert held * 8 / (8 * 8 * kind.elements) <= most


@pytest.mark.parametrize(
    "kind", [kinds.Q4_1, kinds.Q4_K, kinds.Q6_K, kinds.IQ4_XS], ids=lambda kind: kind.name
)
def test_a_linear_layer_multiplies_by_the_canonical_form(kind: BlockType) -> None:
    data = sane_rows_of(kind)
    values = dequantize(data, kind)
    scale = values.abs().amax(1, keepdim=True).double()
    x = torch.randn(3, values.shape[1], generator=torch.Generator().manual_seed(0))
    linear = pack_linear(canonical(data, kind), None, device="cpu", dtype=torch.float32)
    difference = (linear(x).double() - x.double() @ values.double().T) / scale.T
    assert difference.abs().max() < 1e-4


def test_the_shape_before_the_rows_is_kept_and_slices_leave_no_seam() -> None:
    data = rows_of(kinds.Q4_0, rows=3 * SLICE // 32, blocks=1).view(3, -1, kinds.Q4_0.nbytes)
    values = dequantize(data, kinds.Q4_0)
    assert values.shape == (3, SLICE // 32, 32)
    assert same_bits(values, theirs(data, kinds.Q4_0))


def test_another_dtype_is_the_rounded_float32() -> None:
    data = sane_rows_of(kinds.Q6_K)
    assert torch.equal(dequantize(data, kinds.Q6_K, torch.bfloat16), dequantize(data, kinds.Q6_K).bfloat16())


def test_an_empty_tensor_has_no_values() -> None:
    data = torch.empty(0, 2 * kinds.Q4_K.nbytes, dtype=torch.uint8)
    assert dequantize(data, kinds.Q4_K).shape == (0, 512)


def test_what_is_no_whole_block_or_no_weight_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no multiple of Q4_K"):
        dequantize(torch.zeros(2, 145, dtype=torch.uint8), kinds.Q4_K)
    with pytest.raises(CheckpointError, match="Q8_K"):
        dequantize(torch.zeros(2, kinds.Q8_K.nbytes, dtype=torch.uint8), kinds.Q8_K)
    with pytest.raises(CheckpointError, match="not known"):
        kinds.by_id(4)
    assert all(kind in kinds.ALL for kind in PLAIN)
