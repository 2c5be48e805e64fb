"""Linear layers: every packed form equals the plain product, in every batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutti.kernels import Dense, PackedLinear, Quantized, Weight, dequantize, pack_linear, quantize_int8
from tutti.kernels.cpu import onednn
from tutti.kernels.cpu.linear import NativePacker
from tutti.kernels.cpu.ops import NativeOperations

CPU = torch.device("cpu")
Pack = Callable[[Weight, Tensor | None, torch.device, torch.dtype], PackedLinear]
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 8e-3}
SHAPES = [(1, 1), (3, 7), (64, 48), (65, 130), (16, 3000), (300, 33), (128, 4100)]
ROWS = (0, 1, 2, 5, 6, 7, 13, 200)


def difference(got: Tensor, wanted: Tensor) -> float:
    """Relative to the size of what is wanted."""
    return ((got.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
def test_dense_weights_multiply(
    packer: NativePacker, outputs: int, inputs: int, dtype: torch.dtype, stored: torch.dtype
) -> None:
    weight, bias = torch.randn(outputs, inputs).to(stored), torch.randn(outputs)
    with_bias = packer.dense(Dense(weight), bias, CPU, dtype)
    without = packer.dense(Dense(weight), None, CPU, dtype)
    for rows in ROWS:
        x = torch.randn(rows, inputs).to(dtype)
        wanted = x.double() @ weight.to(dtype).double().T
        assert with_bias(x).dtype == dtype
        assert with_bias(x).shape == (rows, outputs)
        assert difference(with_bias(x), wanted + bias) < TOLERANCE[dtype]
        assert difference(without(x, torch.float32), wanted) < 3e-6


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_int8_weights_multiply_activations_quantized_per_token(
    packer: NativePacker, outputs: int, inputs: int, dtype: torch.dtype
) -> None:
    weight, bias = quantize_int8(Dense(torch.randn(outputs, inputs))), torch.randn(outputs)
    linear = packer.int8(weight, bias, CPU, dtype)
    for rows in ROWS:
        x = torch.randn(rows, inputs).to(dtype)
        codes, scale = NativeOperations(packer.module).quantize_rows(x)
        wanted = (codes.double() @ weight.q.double().T) * scale[:, None] * weight.scale.T + bias
        assert difference(linear(x, torch.float32), wanted) < 1e-6
        assert difference(linear(x), x.double() @ dequantize(weight).double().T + bias) < 0.02


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_threads(packer: NativePacker, form: str) -> None:
    own = torch.get_num_threads()
    for outputs, inputs in ((200, 96), (65, 5000)):
        weight = Dense(torch.randn(outputs, inputs))
        dtype = torch.float32 if form == "float32" else torch.bfloat16
        quantized = quantize_int8(weight)
        linear = (
            packer.int8(quantized, None, CPU, dtype)
            if form == "int8"
            else packer.dense(weight, None, CPU, dtype)
        )
        x = torch.randn(230, inputs).to(dtype)
        try:
            torch.set_num_threads(3)
            together = linear(x)
        finally:
            torch.set_num_threads(own)
        for row in (0, 1, 100, 229):
            assert torch.equal(linear(x[row : row + 1])[0], together[row])
        assert torch.equal(linear(x[3:20]), together[3:20])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rows_may_be_strided_and_of_either_dtype(packer: NativePacker, dtype: torch.dtype) -> None:
    weight = torch.randn(30, 21)
    linear = packer.dense(Dense(weight.T.contiguous().T), None, CPU, dtype)
    x = torch.randn(4, 50)
    wanted = x[:, 3:24].double() @ weight.double().T
    for form in (torch.float32, torch.bfloat16, torch.float16):
        assert difference(linear(x.to(form)[:, 3:24], torch.float32), wanted) < 8e-3
    assert difference(linear(x.T.contiguous().T[:, 3:24]), wanted) < 8e-3


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(packer: NativePacker, form: str) -> None:
    weight = Dense(torch.rand(20, 64) + 1)
    dtype = torch.float32 if form == "float32" else torch.bfloat16
    linear = (packer.int8 if form == "int8" else packer.dense)(
        quantize_int8(weight) if form == "int8" else weight, None, CPU, dtype
    )
    x = torch.ones(3, 64, dtype=dtype)
    x[0, 5], x[2, 63] = float("nan"), float("inf")
    result = linear(x)
    assert not result[0].isfinite().any()
    assert result[1].isfinite().all()
    assert not result[2].isfinite().any()


def test_a_wrong_width_is_refused(packer: NativePacker) -> None:
    linear = packer.dense(Dense(torch.randn(4, 8)), None, CPU, torch.float32)
    with pytest.raises(ValueError, match="8 inputs was given 9"):
        linear(torch.randn(2, 9))


@pytest.mark.parametrize(
    ("pack", "dtype"),
    [(onednn.linear, torch.bfloat16), (onednn.int8_linear, torch.float32)],
    ids=["bf16", "int8"],
)
def test_onednn_serves_where_nothing_is_built(pack: Pack, dtype: torch.dtype) -> None:
    for outputs, inputs in SHAPES:
        weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
        form: Weight = quantize_int8(Dense(weight)) if pack is onednn.int8_linear else Dense(weight)
        linear = pack(form, bias, CPU, dtype)
        for rows in (0, 1, 5, 40):
            x = torch.randn(rows, inputs).to(dtype)
            assert linear(x).dtype == dtype
            assert (
                difference(linear(x, torch.float32), x.double() @ dequantize(form).double().T + bias) < 0.02
            )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(outputs=st.integers(1, 40), inputs=st.integers(1, 200), size=st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
def test_int8_weights_are_within_half_a_step(outputs: int, inputs: int, size: float) -> None:
    weight = torch.randn(outputs, inputs) * size
    quantized = quantize_int8(Dense(weight))
    assert quantized.per_channel
    assert quantized.shape == (outputs, inputs)
    error = (dequantize(quantized) - weight).abs()
    assert (error <= quantized.scale * 0.5001).all()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    rows=st.integers(1, 20), outputs=st.integers(1, 150), inputs=st.integers(1, 150), with_bias=st.booleans()
)
def test_any_shape_multiplies(
    packer: NativePacker, rows: int, outputs: int, inputs: int, with_bias: bool
) -> None:
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    bias = torch.randn(outputs) if with_bias else None
    linear = packer.dense(Dense(weight), bias, CPU, torch.float32)
    wanted = x.double() @ weight.double().T + (0 if bias is None else bias)
    assert (linear(x).double() - wanted).abs().max() < 1e-4


def test_packed_codes_unpack_and_dequantize() -> None:
    codes = torch.arange(16, dtype=torch.uint8).repeat(2, 4)[:, :32]
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    scale, zero = torch.rand(2, 4), torch.full((2, 4), 8.0)
    weight = Quantized(packed, scale, zero, group_size=8, bits=4)
    assert weight.shape == (2, 32)
    assert torch.equal(weight.codes(), codes)
    wanted = (codes.float() - 8) * scale.repeat_interleave(8, 1)
    assert torch.equal(dequantize(weight), wanted)
    linear = pack_linear(weight, None, device="cpu", dtype=torch.float32)
    x = torch.randn(3, 32)
    assert difference(linear(x), x @ wanted.T) < 1e-6


def test_the_bytes_of_a_packed_layer_are_what_it_holds() -> None:
    weight = Dense(torch.randn(640, 512))
    for form, dtype, each in (
        (weight, torch.float32, 4),
        (weight, torch.bfloat16, 2),
        (quantize_int8(weight), torch.bfloat16, 1),
    ):
        packed = pack_linear(form, torch.randn(640), device="cpu", dtype=dtype)
        assert 640 * 512 * each <= packed.bytes <= 640 * 512 * each + 640 * 16


@pytest.mark.gpu
def test_linear_layers_multiply_on_a_gpu() -> None:
    weight = torch.randn(64, 48)
    for form in (Dense(weight), quantize_int8(Dense(weight))):
        linear = pack_linear(form, None, device="cuda", dtype=torch.float32)
        x = torch.randn(5, 48)
        assert difference(linear(x.cuda()).cpu(), x @ dequantize(form).T) < 1e-5
