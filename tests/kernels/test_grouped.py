"""Weights that stay quantized: with float32 they multiply as if they had been floats, to the last bit; else in int8."""

from __future__ import annotations

import pytest
import torch

from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.dequantize import canonical, dequantize
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.kernels import Dense, Quantized, pack_linear
from tutti.kernels.cpu.linear import NativePacker, is_grouped
from tutti.kernels.cpu.ops import NativeOperations
from tutti.kernels.linear import QuantizedLinear, ReadsRows, StackedLinear
from tutti.kernels.weights import Stacked, stack
from tutti.kernels.weights import dequantize as dequantize_weight

CPU = torch.device("cpu")
each_kind = pytest.mark.parametrize("kind", kinds.KEPT, ids=lambda kind: kind.name)


def blocks(kind: BlockType, rows: int, inputs: int) -> torch.Tensor:
    """Rows of random blocks whose values are of the size of weights."""
    count = rows * inputs // kind.elements
    found = torch.randint(0, 256, (64 * count, kind.nbytes), dtype=torch.uint8)
    if kind is kinds.MXFP4:
        found[:, 0] = 118 + found[:, 0] % 8
    size = dequantize(found, kind).abs().amax(1)
    return found[(size < 10) & (size > 1e-3)][:count].reshape(rows, -1)


def matrix_of(data: torch.Tensor, kind: BlockType) -> Quantized:
    form = canonical(data, kind)
    assert isinstance(form, Quantized)
    return form


def matrix(kind: BlockType, rows: int, inputs: int) -> Quantized:
    return matrix_of(blocks(kind, rows, inputs), kind)


SHAPES = ((1, 1), (70, 3), (130, 2), (65, 9))  # outputs, and blocks that a row has


def inputs_of(kind: BlockType, blocks_each: int) -> int:
    return blocks_each * max(kind.elements, 96)


@each_kind
def test_a_float32_product_equals_that_of_the_dequantized_weight_to_the_last_bit(
    packer: NativePacker, kind: BlockType
) -> None:
    for rows, blocks_each in SHAPES:
        inputs = inputs_of(kind, blocks_each)
        data = blocks(kind, rows, inputs)
        weight = canonical(data, kind)
        assert isinstance(weight, Quantized)
        assert is_grouped(weight)
        bias = torch.randn(rows)
        ours = packer.grouped(weight, bias, CPU, torch.float32)
        floats = packer.dense(Dense(dequantize(data, kind, torch.float32)), bias, CPU, torch.float32)
        for batch in (0, 1, 7, 200):
            x = torch.randn(batch, inputs)
            assert torch.equal(ours(x), floats(x))
            assert torch.equal(ours(x, torch.bfloat16), floats(x, torch.bfloat16))


@each_kind
def test_a_bfloat16_product_is_that_of_rows_in_int8(packer: NativePacker, kind: BlockType) -> None:
    operations = NativeOperations(packer.module)
    for rows, blocks_each in SHAPES:
        inputs = inputs_of(kind, blocks_each)
        data = blocks(kind, rows, inputs)
        bias = torch.randn(rows)
        ours = packer.grouped(matrix_of(data, kind), bias, CPU, torch.bfloat16)
        weight = dequantize(data, kind).double()
        for batch in (0, 1, 7, 16, 200):
            x = torch.randn(batch, inputs).bfloat16()
            codes, scale = operations.quantize_rows(x.view(-1, 32))
            rounded = (codes.double() * scale.double()[:, None]).view(batch, inputs)
            wanted = rounded @ weight.T + bias.double()
            got = ours(x, torch.float32)
            torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4 * weight.norm().item())
            assert torch.equal(ours(x), got.bfloat16())
            size = x.norm() * weight.norm() / inputs**0.5  # of products, as far as chance has it
            assert (got - (x.double() @ weight.T + bias)).norm() <= 0.03 * size


@each_kind
def test_what_a_row_gives_does_not_depend_on_the_rows_beside_it(
    packer: NativePacker, kind: BlockType
) -> None:
    inputs = inputs_of(kind, 3)
    ours = packer.grouped(matrix(kind, 100, inputs), None, CPU, torch.bfloat16)
    x = torch.randn(213, inputs).bfloat16()
    together = ours(x)
    assert torch.equal(together, torch.cat([ours(row[None]) for row in x]))
    assert torch.equal(together[:35], ours(x[:35]))


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_gives_nothing_that_looks_like_a_number(
    packer: NativePacker, strange: float
) -> None:
    ours = packer.grouped(matrix(kinds.Q4_K, 70, 256), None, CPU, torch.bfloat16)
    x = torch.randn(20, 256).bfloat16()
    x[3, 100] = strange
    made = ours(x)
    assert made[3].isnan().all()
    assert made.isfinite().all(1).tolist() == [row != 3 for row in range(20)]


@pytest.mark.parametrize("zero", [0, 3, 100, 128, 200, 255])
def test_bytes_with_any_zero(packer: NativePacker, zero: int) -> None:
    codes = torch.randint(0, 256, (70, 128), dtype=torch.uint8)
    weight = Quantized(codes, torch.rand(70, 4), torch.tensor(float(zero)), group_size=32)
    ours = packer.grouped(weight, None, CPU, torch.bfloat16)
    x = torch.randn(50, 128).bfloat16()
    wanted = x.double() @ dequantize_weight(weight).double().T
    assert (ours(x, torch.float32) - wanted).norm() <= 0.01 * wanted.norm()
    assert torch.equal(ours(x), torch.cat([ours(row[None]) for row in x]))


@pytest.mark.parametrize("group", [16, 32, 64, 256])
def test_groups_of_any_size_and_zeros(packer: NativePacker, group: int) -> None:
    codes = torch.randint(0, 255, (40, 128), dtype=torch.uint8)  # 256 codes of 4 bits
    weight = Quantized(codes, torch.rand(40, 256 // group), torch.tensor(7.0), group_size=group, bits=4)
    ours = packer.grouped(weight, None, CPU, torch.bfloat16)
    x = torch.randn(50, 256).bfloat16()
    wanted = x.double() @ dequantize_weight(weight).double().T
    assert (ours(x, torch.float32) - wanted).norm() <= 0.01 * wanted.norm()
    assert torch.equal(ours(x), torch.cat([ours(row[None]) for row in x]))


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
