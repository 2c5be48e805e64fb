"""A block in one call gives, to the last bit, what its operations give one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.kernels.paging import Shape, Step, make_step
from tutti.kernels import choose
from tutti.kernels.fused import FEW
from tutti.kernels.weights import Dense
from tutti.layers.config import (
    AttentionConfig,
    FeedForwardConfig,
    MixtureConfig,
    NormConfig,
    RopeConfig,
    RouterConfig,
)
from tutti.layers.lora import Addition, LowRank
from tutti.layers.moe import Mixture
from tutti.layers.parameters import LoadOptions
from tutti.layers.rope import Rope, Rotation
from tutti.models.block import SequentialBlock
from tutti.models.config import DecoderConfig, LayerConfig

pytestmark = pytest.mark.skipif(
    not choose.report()["cpu"].startswith("native"), reason="native kernels are not built"
)
HIDDEN, CPU = 48, torch.device("cpu")
ATTENTION = AttentionConfig(heads=4, kv_heads=2, head_dim=16, scale=0.25)
FEED = FeedForwardConfig(40, "silu")
LAYERS = {
    "plain": LayerConfig(ATTENTION, FEED),
    "with biases, not gated": LayerConfig(
        replace(ATTENTION, bias=True, out_bias=True),
        FeedForwardConfig(40, "gelu_tanh", gated=False, bias=True),
    ),
    "normed heads": LayerConfig(replace(ATTENTION, qk_norm=NormConfig(1e-6)), FEED),
    "window, cap and sinks": LayerConfig(replace(ATTENTION, window=5, softcap=2.0, sinks=True), FEED),
    "no positions": LayerConfig(replace(ATTENTION, rope=None), FEED),
    "experts": LayerConfig(ATTENTION, MixtureConfig(RouterConfig(6, 2), FEED, FEED)),
}
STEPS = {"one": [(7, 1)], "few": [(0, 5), (39, 1), (26, 7), (0, 1)], "more than few": [(0, FEW + 1)]}
DTYPES = (torch.float32, torch.bfloat16)


def make(
    layer: LayerConfig, dtype: torch.dtype, places: str = "pre", offset: float = 0.0, int8: bool = False
) -> SequentialBlock:
    """A block with random weights."""
    config = DecoderConfig(
        HIDDEN, 100, 1000, (layer,), NormConfig(1e-6, offset=offset), (RopeConfig(16, 10_000.0),), places
    )
    block = SequentialBlock(config, layer)
    generator = torch.Generator().manual_seed(1)
    options = LoadOptions(CPU, dtype, "int8" if int8 else None)
    for _, parameter in block.parameters():
        weights = {
            spec.suffix: Dense((torch.randn(spec.shape, generator=generator) * 0.3).to(dtype))
            for spec in parameter.specs
        }
        parameter.load(weights, options)
    block.fuse()
    return block


def both(
    block: SequentialBlock,
    requests: list[tuple[int, int]],
    dtype: torch.dtype,
    *,
    turned: bool = True,
    cache_dtype: torch.dtype | None = None,
) -> list[tuple[Tensor, ...]]:
    """(x, residual, keys, values) of the block joined, and of its operations one by one."""
    shape = Shape(ATTENTION.heads, ATTENTION.kv_heads, ATTENTION.head_dim, ATTENTION.head_dim)
    step = make_step(requests, shape, dtype=dtype, cache_dtype=cache_dtype, garbage=0.0)
    tokens = len(step.q)
    x, residual = torch.randn(2, tokens, HIDDEN, generator=torch.Generator().manual_seed(2)).to(dtype)
    rope = Rope(RopeConfig(16, 10_000.0), 1000, CPU)
    rotation = rope(torch.arange(tokens) + 3) if turned else None
    fused = block.fused
    found = []
    for joined in (fused, None):
        block.fused = joined
        for before in (residual, None):
            found.append(run(block, step.copy(), x, before, rotation))
    block.fused = fused
    return found


def run(
    block: SequentialBlock, step: Step, x: Tensor, residual: Tensor | None, rotation: Rotation | None
) -> tuple[Tensor, ...]:
    made = block(x.clone(), residual, rotation, step.batch, step.cache)
    return (*made, step.cache.key, step.cache.value)


def check(found: list[tuple[Tensor, ...]]) -> None:
    for joined, apart in zip(found[:2], found[2:], strict=True):
        for ours, wanted in zip(joined, apart, strict=True):
            assert torch.equal(ours, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("requests", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_kind_of_layer(layer: LayerConfig, requests: list[tuple[int, int]], dtype: torch.dtype) -> None:
    block = make(layer, dtype)
    assert block.fused is not None
    check(both(block, requests, dtype, turned=layer.attention.rope is not None))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("places", "offset"), [("post", 0.0), ("both", 1.0)])
def test_norms_after_and_around(places: str, offset: float, dtype: torch.dtype) -> None:
    check(both(make(LAYERS["plain"], dtype, places, offset), STEPS["few"], dtype))


def test_int8_weights_and_a_cache_of_another_type() -> None:
    check(both(make(LAYERS["plain"], torch.bfloat16, int8=True), STEPS["few"], torch.bfloat16))
    block = make(LAYERS["plain"], torch.float32)
    check(both(block, STEPS["few"], torch.float32, cache_dtype=torch.bfloat16))


def test_what_the_kernel_does_not_take_is_left_to_the_operations() -> None:
    block = make(LAYERS["plain"], torch.bfloat16)
    assert block.fused is not None
    step = make_step(STEPS["one"], Shape(4, 2, 16, 16), dtype=torch.bfloat16)
    x = torch.zeros(1, HIDDEN, dtype=torch.bfloat16)
    assert block.fused.takes(x, step.batch, step.cache)
    sees_all = replace(step.batch, visible=torch.ones(1, dtype=torch.int32))
    assert not block.fused.takes(x, sees_all, step.cache)
    assert not block.fused.takes(x.expand(FEW + 1, -1), step.batch, step.cache)
    half = make_step(STEPS["one"], Shape(4, 2, 16, 16), dtype=torch.bfloat16, cache_dtype=torch.float16)
    assert not block.fused.takes(x, half.batch, half.cache)


@pytest.mark.parametrize("name", ["plain", "experts"])
def test_an_adapter_takes_the_block_apart(name: str) -> None:
    block = make(LAYERS[name], torch.float32)
    change = LowRank(torch.randn(2, HIDDEN), torch.randn(128, 2))
    block.attention.qkv.additions.append(Addition(change, 0))  # type: ignore[union-attr]
    block.fuse()
    assert block.fused is None
    if isinstance(block.feed_forward, Mixture):
        assert block.feed_forward.fused is not None
        block.feed_forward.experts[3].down.additions.append(Addition(change, 0))
        block.fuse()
        assert block.feed_forward.fused is None


def test_experts_that_are_not_there_are_refused() -> None:
    mixture = make(LAYERS["experts"], torch.float32).feed_forward
    assert isinstance(mixture, Mixture)
    assert mixture.fused is not None
    x, weights = torch.zeros(1, HIDDEN), torch.ones(1, 2)
    for number in (-1, 6):
        with pytest.raises(IndexError, match="experts are 0 to 5"):
            mixture.fused(x, torch.tensor([[0, number]]), weights)
    with pytest.raises(TypeError, match="int64"):
        mixture.fused(x, torch.zeros(1, 2, dtype=torch.int32), weights)
