"""Norms, rotary embedding, activations and quantization: every native form equals the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutti.kernels import reference
from tutti.kernels.cpu.ops import NativeOperations

TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1.6e-2}
WIDTHS = [1, 2, 15, 16, 17, 64, 80, 1024, 1031]
ROWS = [0, 1, 3, 70]


def close(got: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == wanted.dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got.float(), wanted.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm_equals_the_reference(native_operations: Any, width: int, dtype: torch.dtype) -> None:
    for rows in ROWS:
        x, residual = torch.randn(rows, width).to(dtype), torch.randn(rows, width).to(dtype)
        for weight in (None, torch.randn(width).to(dtype), torch.randn(width)):
            for offset in (0.0, 1.0):
                close(
                    native_operations.rms_norm(x, weight, 1e-6, offset),
                    reference.rms_norm(x, weight, 1e-6, offset),
                    dtype,
                )
        got = native_operations.add_rms_norm(x, residual, weight, 1e-6)
        wanted = reference.add_rms_norm(x, residual, weight, 1e-6)
        close(got[0], wanted[0], dtype)
        assert torch.equal(got[1], wanted[1])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rms_norm_of_heads_reads_strided_views(native_operations: Any, dtype: torch.dtype) -> None:
    q, k = torch.randn(5, 6, 80).to(dtype).split((4, 2), dim=1)
    weight = torch.randn(80).to(dtype)
    for x in (q, k, k.transpose(1, 2), q[0, 0], k[None], k.transpose(0, 1)):
        part = weight[: x.shape[-1]]
        close(native_operations.rms_norm(x, part, 1e-5), reference.rms_norm(x, part, 1e-5), dtype)


GROUPS = ([70], [1, 0, 69], [35, 35], [0])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_modulated_norms_equal_the_reference(
    native_operations: Any, width: int, centered: bool, dtype: torch.dtype
) -> None:
    for lengths in GROUPS:
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        x = (torch.randn(sum(lengths), width) * 3 + 1).to(dtype)
        shift, scale = torch.randn(len(lengths), 2 * width).to(dtype).chunk(2, -1)  # as a network's own are
        for weight in (None, torch.randn(width).to(dtype), torch.randn(width)):
            for manner in ((None, None), (scale, None), (scale, shift)):
                given = (x, *manner, starts, 1e-5, weight, centered)
                got, wanted = native_operations.modulated_norm(*given), reference.modulated_norm(*given)
                close(got, wanted, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_gated_sums_equal_the_reference(native_operations: Any, width: int, dtype: torch.dtype) -> None:
    for lengths in GROUPS:
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        x, y = torch.randn(2, sum(lengths), width).to(dtype)
        gate = torch.randn(len(lengths), 3 * width).to(dtype)[:, width : 2 * width]
        for weight in (None, torch.randn(width).to(dtype), torch.randn(width)):
            for own in (None, gate):
                given = (x, y, own, starts, weight, 1e-5)
                close(native_operations.gated_sum(*given), reference.gated_sum(*given), dtype)


def test_groups_that_are_not_those_of_the_rows_are_refused(native_operations: Any) -> None:
    x, starts = torch.randn(4, 8), torch.tensor([0, 1, 4], dtype=torch.int32)
    with pytest.raises(TypeError, match=r"\[groups, width\]"):
        native_operations.gated_sum(x, x, torch.randn(3, 8), starts, None, 0.0)
    with pytest.raises(TypeError, match="int32"):
        native_operations.gated_sum(x, x, torch.randn(2, 8), starts.long(), None, 0.0)
    with pytest.raises(TypeError, match="int32"):
        native_operations.gated_sum(x, x, torch.randn(2, 8), starts - 1, None, 0.0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dim", "half"), [(16, 8), (80, 40), (80, 16), (128, 64), (64, 3), (64, 20)])
def test_rope_equals_the_reference(
    native_operations: Any, dim: int, half: int, interleaved: bool, dtype: torch.dtype
) -> None:
    for tokens in ROWS:
        x = torch.randn(tokens, 7, dim).to(dtype)
        angle = torch.randn(tokens, half)
        wanted = reference.apply_rope(
            x[:, :4].clone(), x[:, 4:6].clone(), angle.cos(), angle.sin(), interleaved
        )
        rest = x[:, 6:].clone()
        q, k, other = x.split((4, 2, 1), dim=1)
        got = native_operations.apply_rope(q, k, angle.cos(), angle.sin(), interleaved)
        close(got[0], wanted[0], dtype)
        close(got[1], wanted[1], dtype)
        assert torch.equal(other, rest)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", [*reference.ACTIVATIONS, "swiglu_clamped"])
def test_activations_equal_the_reference(native_operations: Any, activation: str, dtype: torch.dtype) -> None:
    for width in (1, 15, 16, 33, 200):
        for rows in ROWS:
            x = (torch.randn(rows, 2 * width) * 2).to(dtype)
            close(native_operations.gated(x, activation), reference.gated(x, activation), dtype)
            gate, up = x.chunk(2, dim=-1)
            for parts in ((gate, up), (gate.contiguous(), up), (gate, up.contiguous())):
                got = native_operations.gated(parts[0], activation, parts[1])
                assert torch.equal(got, native_operations.gated(x, activation))
            if activation != "swiglu_clamped":
                close(native_operations.activate(x, activation), reference.activate(x, activation), dtype)


def test_activations_stay_finite_at_the_edges(native_operations: Any) -> None:
    x = torch.tensor([[-1e30, -1000.0, -90.0, -20.0, 0.0, 20.0, 90.0, 1000.0]])
    for activation in ("silu", "gelu", "gelu_tanh", "quick_gelu"):
        torch.testing.assert_close(
            native_operations.activate(x, activation), reference.activate(x, activation), rtol=1e-6, atol=1e-6
        )


def test_activations_keep_what_is_not_a_number(native_operations: Any) -> None:
    x = torch.full((1, 40), float("nan"))
    for activation in reference.ACTIVATIONS:
        assert native_operations.activate(x, activation).isnan().all()
    assert native_operations.gated(x, "swiglu_clamped").isnan().all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("samples", [1, 2, 7, 16, 509, 512, 513, 515, 1030])
def test_the_snake_equals_the_reference(native_operations: Any, samples: int, channels: int) -> None:
    taps = torch.randn(12) / 4
    speed, height = torch.rand(channels) * 40, torch.randn(channels)
    for rows in (0, 1, 4):
        x = torch.randn(rows, channels, samples) * 3
        for filters in (None, taps):
            wanted = reference.snake(x.double(), speed.double(), height.double(), filters).float()
            got = native_operations.snake(x, speed, height, filters)
            torch.testing.assert_close(
                got, wanted, rtol=1e-5, atol=6e-5
            )  # float32 of an angle of some hundreds


def test_the_snake_takes_views_and_other_filters(native_operations: Any) -> None:
    x, speed, height = torch.randn(2, 40, 4), torch.rand(4), torch.rand(4)
    for taps in (None, torch.rand(12), torch.rand(8)):
        close(
            native_operations.snake(x.transpose(1, 2), speed, height, taps),
            reference.snake(x.transpose(1, 2).contiguous(), speed, height, taps),
            torch.float32,
        )
    double = native_operations.snake(x.transpose(1, 2).double(), speed.double(), height.double())
    assert double.dtype == torch.float64


def test_the_snake_keeps_what_is_not_a_number_where_it_is(native_operations: Any) -> None:
    x = torch.zeros(1, 1, 2000)
    x[0, 0, 700] = float("nan")
    for taps, reach in ((None, 0), (torch.rand(12), 6)):
        strange = native_operations.snake(x, torch.ones(1), torch.ones(1), taps).isnan().nonzero()[:, 2]
        assert strange.min() >= 700 - reach
        assert strange.max() <= 700 + reach


def test_an_unknown_activation_is_named(operations: Any) -> None:
    with pytest.raises(ValueError, match="'swash' is not known"):
        operations.activate(torch.zeros(1, 2), "swash")
    with pytest.raises(ValueError, match="'swash' is not known"):
        operations.gated(torch.zeros(1, 2), "swash")


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    rows=st.integers(0, 9),
    width=st.integers(1, 200),
    size=st.sampled_from([0.0, 1e-20, 1.0, 1e20]),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_quantized_rows_are_within_half_a_step(
    operations: Any, rows: int, width: int, size: float, dtype: torch.dtype
) -> None:
    x = (torch.randn(rows, width) * size).to(dtype)
    codes, scale = operations.quantize_rows(x)
    assert codes.dtype == torch.int8
    assert scale.shape == (rows,)
    assert not (codes == -128).any()
    error = (codes.float() * scale[:, None] - x.float()).abs()
    assert (error <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 17, 39])
def test_a_row_that_is_not_finite_has_no_scale(operations: Any, bad: float, place: int) -> None:
    x = torch.randn(3, 40)
    x[1, place] = bad
    scale = operations.quantize_rows(x)[1]
    assert scale.isnan().tolist() == [False, True, False]


def test_native_and_reference_codes_differ_by_one_at_most(native_operations: NativeOperations) -> None:
    x = torch.randn(50, 333)
    codes, scale = native_operations.quantize_rows(x)
    wanted, wanted_scale = reference.quantize_rows(x)
    assert torch.equal(scale, wanted_scale)
    assert (codes.int() - wanted.int()).abs().max() <= 1


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    rows=st.integers(0, 4),
    width=st.integers(1, 70),
    special=st.lists(
        st.tuples(st.integers(0, 69), st.sampled_from([float("nan"), float("inf"), float("-inf"), 3.0])),
        max_size=4,
    ),
    levels=st.integers(1, 5),
)
def test_argmax_is_torch_s(
    operations: Any, rows: int, width: int, special: list[tuple[int, float]], levels: int
) -> None:
    x = torch.randint(-levels, levels, (rows, width + 3)).float()[:, :width]
    for place, value in special:
        x[:, place % width] = value
    assert torch.equal(operations.argmax(x), x.argmax(-1))


def test_argmax_where_nothing_is_allowed_is_the_first(operations: Any) -> None:
    assert operations.argmax(torch.full((2, 40), float("-inf"))).tolist() == [0, 0]


def test_rope_of_a_shared_head_turns_it_once(native_operations: Any) -> None:
    q, k = torch.randn(3, 4, 16), torch.randn(3, 1, 16).expand(3, 4, 16)
    angle = torch.randn(3, 8)
    wanted = reference.apply_rope(q.clone(), k, angle.cos(), angle.sin())
    close(native_operations.apply_rope(q, k, angle.cos(), angle.sin())[1], wanted[1], torch.float32)


@pytest.mark.gpu
def test_the_reference_on_a_gpu_equals_the_reference_on_the_cpu() -> None:
    from tutti import kernels

    x, weight, angle = torch.randn(5, 4, 64), torch.randn(64), torch.randn(5, 32)
    on_gpu = kernels.rms_norm(x.cuda(), weight.cuda(), 1e-6)
    torch.testing.assert_close(on_gpu.cpu(), reference.rms_norm(x, weight, 1e-6))
    q, _ = kernels.apply_rope(x.cuda(), x.cuda(), angle.cos().cuda(), angle.sin().cuda())
    torch.testing.assert_close(q.cpu(), reference.apply_rope(x, x, angle.cos(), angle.sin())[0])
    torch.testing.assert_close(kernels.gated(x[0].cuda(), "silu").cpu(), reference.gated(x[0], "silu"))
