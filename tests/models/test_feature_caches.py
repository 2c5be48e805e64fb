"""Feature caches: steps that are spared most of the network, each request's by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig

from tests.models.pipelines import pipeline
from tests.models.studio import MANNERS, Studio, pixels, reference, studio
from tutti.engine.denoise import Denoise
from tutti.engine.planning import plan_for
from tutti.errors import InvalidRequest
from tutti.events import Failed, ImageDone
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.drawing.cache import FirstBlockCache, Memory, Pass, TeaCache
from tutti.models.registry import find_graph

# Thresholds that some of six steps are under; random networks change more between steps than trained ones do.
LOOSE = {
    "z_image": {"first_block": 1.16, "teacache": 1.2},
    "flux_dev": {"first_block": 0.7, "teacache": 5.0},
    "qwen_image": {"first_block": 1.0, "teacache": 1.2},
    "sd3": {"first_block": 0.8, "teacache": 0.6},
}
CASES = [(family, cache) for family, known in LOOSE.items() for cache in known]


def skipped(made: Studio) -> int:
    assert isinstance(made.engine.runner, Denoise)
    return made.engine.runner.skipped


@pytest.mark.parametrize(("family", "cache"), CASES)
def test_a_threshold_of_0_changes_nothing(family: str, cache: str) -> None:
    made, manner = studio(family), MANNERS[family]
    before = skipped(made)
    plain = made.draw("a cat", manner, steps=4)
    watched = made.draw("a cat", manner, steps=4, cache=cache, cache_threshold=0.0)
    assert np.array_equal(watched, plain) and skipped(made) == before


@pytest.mark.parametrize(("family", "cache"), CASES)
def test_a_cached_picture_skips_steps_and_is_the_same_in_a_batch(family: str, cache: str) -> None:
    made, manner = studio(family), MANNERS[family]
    cached = {"cache": cache, "cache_threshold": LOOSE[family][cache], "steps": 6}
    before = skipped(made)
    alone = made.draw("a cat", manner, **cached)
    spared = skipped(made) - before
    assert 0 < spared < 5  # the first step and, here, others are computed
    plain = made.draw("a cat", manner, steps=6)
    error = float(((alone - plain) ** 2).mean())
    assert error > 0 and np.isfinite(10 * np.log10(255**2 / error))
    others = ({}, {"cache": "first_block"}, {"cache": "teacache", "cache_threshold": 0.5}, {"width": 32})
    for number, more in enumerate(others):
        made.submit(f"other {number}", "x" * (4 * number + 1), manner, steps=5, seed=number, **more)
        made.engine.loop.turn()
    made.submit("one", "a cat", manner, **cached)
    ends = made.finish()
    assert len(ends) == 5 and all(isinstance(end, ImageDone) for end in ends.values())
    assert np.abs(pixels(ends["one"]) - alone).max() <= 1
    made.nothing_is_left()


@pytest.mark.parametrize("family", ["flux_dev", "qwen_image"])  # what diffusers 0.42 has this cache for
def test_first_block_skips_the_steps_that_diffusers_skips(family: str) -> None:
    made, manner, pipe = studio(family), MANNERS[family], pipeline(family)[0]
    threshold = LOOSE[family]["first_block"]
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        theirs = np.asarray(reference(family, "pil", "a cat", num_inference_steps=6)).astype(int)
    finally:
        pipe.transformer.disable_cache()
    before = skipped(made)
    ours = made.draw("a cat", manner, steps=6, cache="first_block", cache_threshold=threshold)
    assert skipped(made) > before and np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("cache", [FirstBlockCache(0.1), TeaCache(0.1)])
def test_rows_that_skip_are_not_computed_and_others_are(cache: FirstBlockCache | TeaCache) -> None:
    def run(passing: Pass, hidden: list[torch.Tensor]) -> tuple[list[list[int]], list[torch.Tensor]]:
        """Two blocks: the first adds a row's own values, the second 1."""
        computed = []
        passing.enter(hidden, hidden)
        before = [hidden[row] for row in passing.left]
        computed.append(passing.left)
        after = [2 * one for one in before]
        passing.look(before, after)
        computed.append(passing.left)
        return computed, passing.end([2 * hidden[row] + 1 for row in passing.left])

    rows = [torch.full((3, 2), 1.0), torch.full((5, 2), 2.0)]
    first = Pass([cache, cache], [None, None], [False, False])
    computed, found = run(first, rows)
    assert computed == [[0, 1], [0, 1]] and torch.equal(found[1], 2 * rows[1] + 1)
    changed = [1.01 * rows[0], 2 * rows[1]]
    second = Pass([cache, cache], first.memories, [False, False])
    computed, found = run(second, changed)
    assert computed == ([[1], [1]] if cache.early else [[0, 1], [1]])
    base = changed[0] if cache.early else 2 * changed[0]
    assert torch.equal(found[0], base + (2 * rows[0] + 1 - (rows[0] if cache.early else 2 * rows[0])))
    assert torch.equal(found[1], 2 * changed[1] + 1)
    last = Pass([cache, cache], second.memories, [True, True])
    everything = [[0, 1], [0, 1]]
    assert run(last, changed)[0] == (everything if cache.finishes else [[0, 1], []])


def test_what_changes_little_by_little_adds_up_for_teacache() -> None:
    cache, memory = TeaCache(0.1), Memory(torch.ones(2, 2), torch.ones(2, 2))
    skips = []
    for number in range(1, 4):
        passing = Pass([cache], [memory], [False])
        hidden = [torch.full((2, 2), 1.04**number)]
        passing.enter(hidden, hidden)
        skips.append(not passing.left)
        passing.end(hidden if passing.left else [])
        found = passing.memories[0]
        assert found is not None
        memory = found
    assert skips == [True, True, False]


@pytest.mark.parametrize(
    ("more", "message", "param"),
    [
        ({"cache": "fast"}, "one of none, first_block, teacache for this model, got 'fast'", "cache"),
        (
            {"cache": "teacache", "cache_threshold": float("nan")},
            "from 0 .* to 10, got nan",
            "cache_threshold",
        ),
        ({"cache": "first_block", "cache_threshold": -0.1}, "from 0 .* to 10, got -0.1", "cache_threshold"),
        (
            {"cache": "none", "cache_threshold": 0.1},
            "needs a cache: first_block, teacache",
            "cache_threshold",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(more: dict[str, object], message: str, param: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio("z_image").submit("one", **more)
    assert caught.value.param == param


def test_a_network_of_another_kind_has_no_cache() -> None:
    with pytest.raises(InvalidRequest, match="must be one of none for this model, got 'teacache'"):
        studio("sdxl").submit("one", cache="teacache")


def test_caches_wait_for_their_memory_which_the_plan_has() -> None:
    checkpoint = open_checkpoint(pipeline("z_image")[1])
    made = Studio(checkpoint.path)
    plan = plan_for(checkpoint, find_graph(checkpoint.config), made.options, torch.device("cpu"))
    row = next(row for row in plan.rows if row.name == "feature caches")
    denoise = made.engine.runner
    assert isinstance(denoise, Denoise) and plan.drawing is not None
    assert denoise.pool == plan.drawing.features == row.bytes > 0
    made.submit("one", cache="teacache")
    while not denoise.running:
        made.engine.loop.turn()
    denoise.pool = next(iter(denoise._active.values())).kept  # of one such picture
    made.submit("two", cache="first_block")
    made.submit("plain")
    made.submit("large", cache="first_block", width=64, height=64)
    ends = made.finish()
    assert (
        isinstance(ends["large"], Failed)
        and "the feature cache of this picture takes" in ends["large"].error.message
    )
    assert all(isinstance(ends[name], ImageDone) for name in ("one", "two", "plain"))
    made.nothing_is_left()
