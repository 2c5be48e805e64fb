"""Paged attention: every implementation means plain causal attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.paging import Shape, Step, make_step, plain_attention

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1.5e-2}
MIXED = ((0, 5), (39, 1), (26, 7), (100, 1), (0, 1), (63, 1), (64, 1), (10, 90))


def run(operations: Any, step: Step, **options: Any) -> torch.Tensor:
    scale = step.shape.key_dim**-0.5
    return operations.paged_attention(step.q, step.k, step.v, step.cache, step.batch, scale, **options)


def check(operations: Any, step: Step, tolerance: float, **options: Any) -> None:
    got = run(operations, step.copy(), **options)
    wanted = plain_attention(step, step.shape.key_dim**-0.5, **options)
    assert got.dtype == step.q.dtype
    assert got.shape == (step.q.shape[0], step.shape.heads, step.shape.value_dim)
    torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2), (6, 2), (8, 1), (7, 1), (16, 8)])
def test_equals_plain_attention_for_every_group_size(
    operations: Any, dtype: torch.dtype, heads: int, kv_heads: int
) -> None:
    step = make_step(MIXED, Shape(heads=heads, kv_heads=kv_heads, key_dim=32, value_dim=32), dtype=dtype)
    check(operations, step, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("dim", [16, 24, 64, 80, 96, 128, 192, 256])
def test_equals_plain_attention_for_every_head_width(operations: Any, dtype: torch.dtype, dim: int) -> None:
    step = make_step(MIXED, Shape(key_dim=dim, value_dim=dim, block_size=32), dtype=dtype)
    check(operations, step, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_keys_and_values_may_differ_in_width(operations: Any, dtype: torch.dtype) -> None:
    check(operations, make_step(MIXED, Shape(key_dim=48, value_dim=20), dtype=dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_may_be_a_view_of_the_keys(operations: Any, dtype: torch.dtype) -> None:
    shape = Shape(heads=9, kv_heads=1, key_dim=72, value_dim=64, shared=True)
    check(operations, make_step(MIXED, shape, dtype=dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("window", [1, 5, 16, 64, 200])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_window_hides_what_lies_before_it(operations: Any, dtype: torch.dtype, window: int) -> None:
    check(operations, make_step(MIXED, dtype=dtype), TOLERANCE[dtype], window=window)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_tokens_may_see_what_follows_them(operations: Any, dtype: torch.dtype, window: int | None) -> None:
    step = make_step([(3, 12), (20, 1), (0, 9)], dtype=dtype)
    visible = [4, 5, *[13] * 8, 14, 15, 21, *[9] * 9]  # eight tokens see each other, and nine
    batch = replace(step.batch, visible=torch.tensor(visible, dtype=torch.int32))
    check(operations, replace(step, batch=batch), TOLERANCE[dtype], window=window)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_soft_caps_and_sinks(operations: Any, dtype: torch.dtype) -> None:
    step = make_step(MIXED, dtype=dtype)
    sinks = torch.tensor([-3.0, 0.5, 2.0, 30.0])
    check(operations, step, TOLERANCE[dtype], softcap=1.5)
    check(operations, step, TOLERANCE[dtype], sinks=sinks)
    check(operations, step, TOLERANCE[dtype], softcap=20.0, sinks=sinks, window=9)


@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_cache_may_have_another_dtype(
    operations: Any, dtype: torch.dtype, cache_dtype: torch.dtype
) -> None:
    check(operations, make_step(MIXED, dtype=dtype, cache_dtype=cache_dtype), 2e-2)


@pytest.mark.parametrize("before", [1500, 2047, 4000])
@pytest.mark.parametrize("threads", [1, 4])
def test_long_requests_are_summed_in_ranges(operations: Any, before: int, threads: int) -> None:
    step = make_step([(before, 3), (20, 1)], Shape(heads=2, kv_heads=1))
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(operations, step, 2e-6)
        check(operations, step, 2e-6, window=1100)
    finally:
        torch.set_num_threads(own)


def test_keys_and_values_of_the_step_are_written_where_the_slots_say(operations: Any) -> None:
    step = make_step(MIXED, dtype=torch.bfloat16)
    run(operations, step)
    assert step.v is not None
    size = step.shape.block_size
    for token, slot in enumerate(step.batch.slots.tolist()):
        assert torch.equal(step.cache.key[slot // size, :, slot % size], step.k[token])
        assert torch.equal(step.cache.value[slot // size, :, slot % size], step.v[token])


def test_strided_views_of_one_projection_are_taken_as_they_are(operations: Any) -> None:
    step = make_step(MIXED, Shape(heads=4, kv_heads=2, key_dim=16, value_dim=16))
    assert step.v is not None
    q, k, v = torch.cat((step.q, step.k, step.v), dim=1).split((4, 2, 2), dim=1)
    got = operations.paged_attention(q, k, v, step.cache, step.batch, 0.25)
    torch.testing.assert_close(got.double(), plain_attention(step, 0.25), rtol=2e-6, atol=2e-6)


def test_rows_of_no_request_come_out_zero(operations: Any) -> None:
    step = make_step([(3, 2)])
    assert step.v is not None
    padded = [torch.cat((x, torch.ones_like(x[:1]))) for x in (step.q, step.k, step.v)]
    slots = torch.cat((step.batch.slots, torch.zeros(1, dtype=torch.int64)))
    batch = type(step.batch)(step.batch.query_starts, step.batch.lengths, step.batch.block_table, slots, 2, 5)
    got = operations.paged_attention(*padded, step.cache, batch, 0.25)
    torch.testing.assert_close(got[:2].double(), plain_attention(step, 0.25), rtol=2e-6, atol=2e-6)
    assert not got[2].any()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_request_that_is_not_finite_stays_so_and_alone(operations: Any, dtype: torch.dtype) -> None:
    step = make_step([(20, 1), (70, 2), (5, 1)], dtype=dtype)
    step.k[1, 0, 3] = float("nan")  # the second request's first new key
    step.q[3, 1, 2] = float("inf")  # the third request's query
    got = run(operations, step)
    assert got[0].isfinite().all()
    assert got[1:3, :2].isnan().any(-1).all()
    assert got[3, 1].isnan().any()


def test_an_empty_step_is_nothing(operations: Any) -> None:
    step = make_step([(3, 0), (5, 0)])
    assert run(operations, step).shape == (0, 4, 16)


# Some decode behind a common beginning of 320 tokens, some of them just beyond it; others do not.
BEHIND = ((320, 1), (400, 1), (321, 1), (39, 1), (1500, 1), (330, 9), (500, 1), (320, 1), (150, 1), (2100, 1))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (8, 1), (48, 1)])
def test_requests_with_a_common_beginning_equal_plain_attention(
    operations: Any, dtype: torch.dtype, heads: int, kv_heads: int
) -> None:
    shape = Shape(heads=heads, kv_heads=kv_heads, block_size=32)
    check(operations, make_step(BEHIND, shape, dtype=dtype, common=320), TOLERANCE[dtype])
    check(operations, make_step(BEHIND, shape, dtype=dtype, common=320), TOLERANCE[dtype], softcap=5.0)
    check(operations, make_step(BEHIND, shape, dtype=dtype, common=320), TOLERANCE[dtype], window=350)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("requests", "common"), [(MIXED, 0), (BEHIND, 320), (BEHIND, 128)])
def test_native_results_do_not_depend_on_the_batch(
    native_operations: Any, dtype: torch.dtype, requests: tuple[tuple[int, int], ...], common: int
) -> None:
    together = make_step(requests, Shape(heads=6, kv_heads=2), dtype=dtype, common=common)
    result = run(native_operations, together.copy())
    starts = together.batch.query_starts.tolist()
    for i, _ in enumerate(requests):
        rows = slice(starts[i], starts[i + 1])
        count = starts[i + 1] - starts[i]
        length = int(together.batch.lengths[i])
        batch = type(together.batch)(
            torch.tensor([0, count], dtype=torch.int32),
            together.batch.lengths[i : i + 1],
            together.batch.block_table[i : i + 1],
            together.batch.slots[rows],
            count,
            length,
        )
        step = together.copy()
        assert step.v is not None
        alone = native_operations.paged_attention(
            step.q[rows], step.k[rows], step.v[rows], step.cache, batch, step.shape.key_dim**-0.5
        )
        assert torch.equal(alone, result[rows])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", [None, 70])
def test_native_results_do_not_depend_on_chunks_or_threads(
    native_operations: Any, dtype: torch.dtype, window: int | None
) -> None:
    length = 1200
    whole = make_step([(0, length)], Shape(heads=2, kv_heads=1), dtype=dtype)
    expected = run(native_operations, whole, window=window)  # which also fills the cache
    assert whole.v is not None
    own = torch.get_num_threads()
    try:
        for chunk, threads in ((7, 1), (256, 3), (1199, 4)):
            torch.set_num_threads(threads)
            for start in range(0, length, chunk):
                end = min(length, start + chunk)
                if 300 < end < 1000:
                    continue  # more of the same
                step = make_step([(start, end - start)], whole.shape, dtype=dtype)
                batch = type(step.batch)(
                    step.batch.query_starts,
                    step.batch.lengths,
                    whole.batch.block_table,
                    whole.batch.slots[start:end],
                    end - start,
                    end,
                )
                got = native_operations.paged_attention(
                    whole.q[start:end],
                    whole.k[start:end],
                    whole.v[start:end],
                    whole.cache,
                    batch,
                    0.25,
                    window,
                )
                assert torch.equal(got, expected[start:end])
    finally:
        torch.set_num_threads(own)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    requests=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 40)), min_size=1, max_size=5),
    group=st.integers(1, 8),
    kv_heads=st.integers(1, 3),
    dim=st.sampled_from([2, 16, 34, 80, 128]),
    block_size=st.sampled_from([1, 16, 32]),
    window=st.none() | st.integers(1, 200),
    dtype=st.sampled_from(list(TOLERANCE)),
    with_sinks=st.booleans(),
)
def test_any_step_equals_plain_attention(
    operations: Any,
    requests: list[tuple[int, int]],
    group: int,
    kv_heads: int,
    dim: int,
    block_size: int,
    window: int | None,
    dtype: torch.dtype,
    with_sinks: bool,
) -> None:
    shape = Shape(group * kv_heads, kv_heads, dim, dim, block_size)
    sinks = torch.linspace(-2, 2, shape.heads) if with_sinks else None
    step = make_step(requests, shape, dtype=dtype, seed=len(requests))
    check(operations, step, TOLERANCE[dtype], window=window, sinks=sinks)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_reference_on_a_gpu_equals_plain_attention(dtype: torch.dtype) -> None:
    from tutti.kernels import LayerCache, paged_attention

    step = make_step(MIXED, dtype=dtype)
    assert step.v is not None
    cache = LayerCache(step.cache.key.cuda(), step.cache.value.cuda())
    got = paged_attention(
        step.q.cuda(), step.k.cuda(), step.v.cuda(), cache, step.batch.to("cuda"), scale=0.25, window=20
    )
    wanted = plain_attention(step, 0.25, window=20)
    torch.testing.assert_close(got.cpu().double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
