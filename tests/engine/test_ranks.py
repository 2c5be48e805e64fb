"""Networks that two processes compute together: the same pictures, and failures that end within seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import checkpoints
from tests.models import film_studio as films
from tests.models.film_pipelines import film_pipeline
from tests.models.pipelines import adapter_file, pipeline
from tests.models.studio import MANNERS, Studio, options, pixels, studio
from tutti.engine.core import Engine
from tutti.engine.plan import MemoryPlan
from tutti.engine.planning import sketch_plan
from tutti.engine.ranks import Ranks
from tutti.errors import ConfigError, EngineDied
from tutti.events import Failed, ImageDone, Progress
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.registry import find_graph

WAYS = {"cfg": "cfg_parallel_size", "ulysses": "ulysses_degree", "tensor": "tensor_parallel_size"}


@contextmanager
def shared(family: str, way: str, **more: Any) -> Iterator[Studio]:
    """The same engine as `studio(family)`, with two ranks."""
    made = Studio(pipeline(family)[1], **{WAYS[way]: 2}, **more)
    try:
        yield made
    finally:
        made.engine.close()


def until(made: Studio, condition: Callable[[], bool], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        made.engine.loop.turn()


@pytest.mark.parametrize(
    ("family", "way"),
    [
        ("z_image", "cfg"),
        pytest.param("sd3", "cfg", marks=pytest.mark.slow),
        ("flux_dev", "ulysses"),
        ("qwen_image", "ulysses"),
        ("flux_dev", "tensor"),
        pytest.param("qwen_image", "tensor", marks=pytest.mark.slow),
    ],
)
def test_pictures_of_two_ranks_are_those_of_one(family: str, way: str) -> None:
    alone, manner = studio(family), MANNERS[family]
    asked = [
        ("a cat", manner, {"width": 16, "height": 16, "steps": 3}),
        ("a long dog", {}, {"width": 24, "height": 24, "steps": 2, "seed": 1}),
        # Of 35 patches nobody has just a half.
        ("x", manner, {"width": 20, "height": 28, "steps": 2, "seed": 3}),
    ]
    with shared(family, way) as made:
        for number, (prompt, how, fields) in enumerate(asked):  # they come while others are under way
            made.submit(str(number), prompt, how, **fields)
            made.engine.loop.turn()
        made.submit("leaves", "a cat", manner, steps=50)
        made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        ends = made.finish()
        for number, (prompt, how, fields) in enumerate(asked):
            assert np.abs(pixels(ends[str(number)]) - alone.draw(prompt, how, **fields)).max() <= 1
        made.nothing_is_left()


def test_films_whose_tokens_two_ranks_share_are_those_of_one() -> None:
    asked = {"steps": 4, "negative": "blue"}
    alone = films.studio("wan_two").film(**asked)
    made = films.Studio(film_pipeline("wan_two")[1], ulysses_degree=2, memory=6_000_000_000)
    try:
        made.submit("other", "a dog", width=16, steps=2)
        assert np.abs(made.film(**asked) - alone).max() <= 1
    finally:
        made.engine.close()


def test_a_killed_rank_fails_what_is_under_way_and_is_started_again() -> None:
    with shared("z_image", "cfg") as made:
        ranks = made.engine.ranks
        assert ranks is not None
        whole = made.draw("a cat", MANNERS["z_image"])
        for name in ("one", "two"):
            made.submit(name, "a cat", MANNERS["z_image"], steps=1000)
        until(made, lambda: any(isinstance(event, Progress) and event.done > 3 for event in made.events))
        os.kill(ranks.pids[0], signal.SIGKILL)
        start = time.monotonic()
        ends = made.finish()
        assert time.monotonic() - start < 30
        for name in ("one", "two"):
            end = ends[name]
            assert isinstance(end, Failed) and (end.error.kind, end.error.stage) == (
                "StageFailed",
                "denoiser",
            )
            assert "the ranks of stage denoiser ended (rank 1: SIGKILL)" in end.error.message
        made.submit("early", "a cat", MANNERS["z_image"])
        early = made.finish()["early"]
        assert isinstance(early, ImageDone) or early.error.kind == "Busy"
        until(made, lambda: ranks.restarts == 1 and ranks.serving)
        assert np.array_equal(made.draw("a cat", MANNERS["z_image"]), whole)
        made.nothing_is_left()


def test_a_rank_that_dies_before_it_is_ready_is_told_and_not_started_again() -> None:
    checkpoint = open_checkpoint(pipeline("z_image")[1])
    asked = options(checkpoint.path, cfg_parallel_size=2)
    graph = find_graph(checkpoint.config, checkpoint.path)
    plan = sketch_plan(checkpoint, graph, asked, torch.device("cpu"), available=4_000_000_000)
    ranks = Ranks(asked, plan.beside, stage="denoiser", device=torch.device("cpu"), threads=1)
    while not ranks.pids:
        time.sleep(0.01)
    os.kill(ranks.pids[0], signal.SIGKILL)
    with pytest.raises(EngineDied, match=r"rank 1: SIGKILL.* before they were ready"):
        ranks.ready()
    assert ranks.restarts == 0
    ranks.close()


@pytest.mark.slow  # four processes
def test_ways_multiply() -> None:
    alone, manner = studio("qwen_image"), MANNERS["qwen_image"]
    made = Studio(pipeline("qwen_image")[1], cfg_parallel_size=2, ulysses_degree=2, memory=8_000_000_000)
    try:
        ours = made.draw("a long dog", manner, width=20, height=28)
        assert np.abs(ours - alone.draw("a long dog", manner, width=20, height=28)).max() <= 1
    finally:
        made.engine.close()


def test_each_request_has_its_adapter_where_ranks_share_rows(tmp_path: Any) -> None:
    ink = adapter_file("flux_dev", tmp_path, 1)
    with shared("flux_dev", "cfg", lora_modules=(f"ink={ink}",)) as made:
        made.submit("inked", "a cat", MANNERS["flux_dev"], lora="ink")
        made.submit("plain", "a cat", MANNERS["flux_dev"])
        ends = made.finish()
        made.submit("cached", "a cat", cache="first_block")
        refused = made.finish()["cached"]
    assert isinstance(refused, Failed) and refused.error.kind == "InvalidRequest"
    assert "keep no feature caches" in refused.error.message
    alone = Studio(pipeline("flux_dev")[1], lora_modules=(f"ink={ink}",))
    inked = alone.draw("a cat", MANNERS["flux_dev"], lora="ink")
    assert np.abs(pixels(ends["inked"]) - inked).max() <= 1
    assert np.abs(pixels(ends["plain"]) - studio("flux_dev").draw("a cat", MANNERS["flux_dev"])).max() <= 1
    assert np.abs(inked - pixels(ends["plain"])).max() > 1


def test_the_plan_counts_what_each_rank_holds() -> None:
    checkpoint = open_checkpoint(pipeline("flux_dev")[1])
    graph = find_graph(checkpoint.config, checkpoint.path)

    def weights(**ways: int) -> tuple[list[int], MemoryPlan]:
        asked = options(checkpoint.path, 6_000_000_000, **ways)
        plan = sketch_plan(checkpoint, graph, asked, torch.device("cpu"), available=8_000_000_000)
        plans = (plan, *plan.beside)
        assert plan.fits and all(one.fits for one in plans)
        assert sum(one.budget for one in plans) == 6_000_000_000
        return [next(row.bytes for row in one.rows if row.name == "weights") for one in plans], plan

    (whole,), alone = weights()
    (leads, other), rows = weights(cfg_parallel_size=2)
    assert leads == whole and 0 < other < whole  # no texts, no VAE
    (leads, less), _ = weights(tensor_parallel_size=2)
    assert whole - leads == other - less > 0.2 * other
    assert len(weights(cfg_parallel_size=2, ulysses_degree=2)[0]) == 4
    assert rows.drawing is not None and alone.drawing is not None
    assert rows.drawing.largest < alone.drawing.largest  # a step takes memory on every rank
    assert "memory plan for cpu (rank 1)" in rows.text()


def test_what_writes_is_computed_by_one_rank() -> None:
    path = checkpoints.cached("qwen3")
    with pytest.raises(ConfigError, match="models that do nothing but draw or film"):
        Engine(options(path, tensor_parallel_size=2), lambda events: None)


@pytest.mark.parametrize(
    ("family", "way", "words"),
    [
        ("z_image", "ulysses", "the tokens of a ZImageTransformer2DModel cannot be shared"),
        ("sd3", "tensor", "the layers of a SD3Transformer2DModel cannot be shared"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_what_can(family: str, way: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Engine(options(pipeline(family)[1], **{WAYS[way]: 2}), lambda events: None)
    assert "--cfg-parallel-size 2" in caught.value.message
