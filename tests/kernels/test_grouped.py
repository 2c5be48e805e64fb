"""Weights that stay quantized multiply as if they had been floats: to the last bit, in every form and batch."""

from __future__ import annotations

import pytest
import torch

from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.dequantize import canonical, dequantize
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.kernels import Dense, Quantized, pack_linear
from tutti.kernels.cpu.linear import NativePacker, is_grouped
from tutti.kernels.linear import QuantizedLinear, ReadsRows, StackedLinear
from tutti.kernels.weights import Stacked, stack

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16)
each_kind = pytest.mark.parametrize("kind", kinds.KEPT, ids=lambda kind: kind.name)


def blocks(kind: BlockType, rows: int, inputs: int) -> torch.Tensor:
    """Rows of random blocks whose values are of the size of weights."""
    count = rows * inputs // kind.elements
    found = torch.randint(0, 256, (64 * count, kind.nbytes), dtype=torch.uint8)
    if kind is kinds.MXFP4:
        found[:, 0] = 118 + found[:, 0] % 8
    size = dequantize(found, kind).abs().amax(1)
    return found[(size < 10) & (size > 1e-3)][:count].reshape(rows, -1)


def matrix(kind: BlockType, rows: int, inputs: int) -> Quantized:
    form = canonical(blocks(kind, rows, inputs), kind)
    assert isinstance(form, Quantized)
    return form


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@each_kind
def test_a_product_equals_that_of_the_dequantized_weight_to_the_last_bit(
    packer: NativePacker, kind: BlockType, dtype: torch.dtype
) -> None:
    for rows, blocks_each in ((1, 1), (70, 3), (130, 2)):
        inputs = blocks_each * max(kind.elements, 96)
        data = blocks(kind, rows, inputs)
        weight = canonical(data, kind)
        assert isinstance(weight, Quantized)
        assert is_grouped(weight)
        bias = torch.randn(rows)
        ours = packer.grouped(weight, bias, CPU, dtype)
        floats = packer.dense(Dense(dequantize(data, kind, dtype)), bias, CPU, dtype)
        for batch in (0, 1, 7, 200):
            x = torch.randn(batch, inputs, dtype=dtype)
            assert torch.equal(ours(x), floats(x))
            assert torch.equal(ours(x, torch.float32), floats(x, torch.float32))


@each_kind
def test_rows_are_those_of_the_dequantized_weight(packer: NativePacker, kind: BlockType) -> None:
    data = blocks(kind, 80, 256)
    index = torch.tensor([79, 0, 3, 3, 64])
    for packed in (
        packer.grouped(canonical(data, kind), None, CPU, torch.float32),
        QuantizedLinear(canonical(data, kind), None),
    ):
        assert isinstance(packed, ReadsRows)
        assert torch.equal(packed.rows(index, torch.float32), dequantize(data[index], kind))


@each_kind
def test_a_kept_weight_takes_the_bytes_that_the_plan_counts(packer: NativePacker, kind: BlockType) -> None:
    weight = matrix(kind, 128, 512)
    wanted = 128 * 512 * kinds.KEPT[kind] / 8
    assert weight.nbytes == wanted
    assert packer.grouped(weight, None, CPU, torch.float32).bytes == wanted
    assert wanted <= 128 * 512 * kind.bits / 8 * 1.23


@each_kind
def test_the_reference_multiplies_tile_by_tile(kind: BlockType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutti.kernels.linear.TILE", 1000)
    weight = canonical(data := blocks(kind, 9, 256), kind)
    assert isinstance(weight, Quantized)
    x, bias = torch.randn(5, 256), torch.randn(9)
    wanted = x @ dequantize(data, kind).T + bias
    torch.testing.assert_close(QuantizedLinear(weight, bias)(x), wanted)


def test_parts_of_different_forms_stand_side_by_side() -> None:
    parts = [matrix(kind, 6, 256) for kind in (kinds.Q4_K, kinds.Q4_K, kinds.Q6_K)]
    weight = stack([*parts, Dense(torch.randn(3, 256))], torch.float32)
    assert isinstance(weight, Stacked)
    assert [part.shape[0] for part in weight.parts] == [12, 6, 3]
    bias = torch.randn(21)
    packed = pack_linear(weight, bias, device="cpu", dtype=torch.float32)
    assert isinstance(packed, StackedLinear)
    x = torch.randn(4, 256)
    apart = [pack_linear(part, None, device="cpu", dtype=torch.float32)(x) for part in weight.parts]
    assert torch.equal(packed(x), torch.cat(apart, 1) + bias)


def test_codes_in_forms_that_the_kernels_do_not_have_are_left_to_the_reference() -> None:
    codes = torch.randint(0, 255, (4, 48), dtype=torch.uint8)
    odd = Quantized(codes, torch.rand(4, 4), torch.rand(4, 4), group_size=12)
    assert not is_grouped(odd)
    assert isinstance(pack_linear(odd, None, device="cpu", dtype=torch.float32), QuantizedLinear)


def test_a_row_that_is_not_there_is_refused(packer: NativePacker) -> None:
    packed = packer.grouped(matrix(kinds.Q8_0, 4, 32), None, CPU, torch.float32)
    with pytest.raises(IndexError, match="0 to 3"):
        packed.rows(torch.tensor([4]), torch.float32)
