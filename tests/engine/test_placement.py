"""Where stages are placed: what is asked for is understood or refused, and the memory of all devices is one sum."""

from __future__ import annotations

import pytest
import torch

from tests.models import checkpoints
from tutti.engine.placement import device_name, elsewhere, parse_placement
from tutti.engine.plan import MemoryPlan, require
from tutti.engine.planning import sketch_plan, threads_each
from tutti.errors import ConfigError, OutOfMemory
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.registry import find_graph
from tutti.settings import EngineOptions

SPEECH = {"talker": "cpu:1", "token2wav": "cpu:1"}
GB = 10**9


def plan(placement: dict[str, str], memory: int | None = 2 * GB, available: int = 4 * GB) -> MemoryPlan:
    checkpoint = open_checkpoint(checkpoints.cached("qwen2_5_omni"))
    options = EngineOptions(model=str(checkpoint.path), dtype="float32", memory=memory, placement=placement)
    return sketch_plan(
        checkpoint, find_graph(checkpoint.config), options, torch.device("cpu"), available=available
    )


def test_words_become_a_placement() -> None:
    assert parse_placement(["talker=cpu:1,token2wav=cpu:2", "audio=cuda"]) == {
        "talker": "cpu:1",
        "token2wav": "cpu:2",
        "audio": "cuda",
    }
    for word in ("talker", "=cpu", "talker=", ""):
        with pytest.raises(ConfigError, match="write STAGE=DEVICE"):
            parse_placement([word])


def test_a_device_has_one_name() -> None:
    assert [device_name(name) for name in ("cpu", "cpu:0", "cpu:1", "cuda", "cuda:0")] == [
        "cpu",
        "cpu",
        "cpu:1",
        "cuda:0",
        "cuda:0",
    ]
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        device_name("gpu")


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"mouth": "cpu:1"}, "no such stage; it has audio, vision, thinker, talker, token2wav"),
        ({"thinker": "cpu:1"}, "the model's main stage is where --device says"),
        ({"talker": "tpu"}, "no device 'tpu'"),
    ],
)
def test_what_cannot_be_placed_is_refused(placement: dict[str, str], words: str) -> None:
    graph = find_graph(open_checkpoint(checkpoints.cached("qwen2_5_omni")).config)
    with pytest.raises(ConfigError, match=words):
        elsewhere(graph, placement, "cpu")
    assert not elsewhere(graph, {"talker": "cpu:0"}, "cpu")


def test_the_devices_of_a_machine_share_its_memory() -> None:
    whole, parts = plan({}), plan(SPEECH)
    (beside,) = parts.beside
    assert parts.fits and beside.fits
    assert parts.budget + beside.budget == 2 * GB
    assert parts.total + beside.total <= 2 * GB
    weights = [next(row.bytes for row in one.rows if row.name == "weights") for one in (whole, parts, beside)]
    assert weights[0] == weights[1] + weights[2] and min(weights) > 0
    # The pools are those of one process, less what the second one costs.
    assert set(beside.followers) == {"talker"} and not parts.followers
    assert beside.followers["talker"].context == whole.followers["talker"].context
    assert "memory plan for cpu:1" in parts.text()


def test_what_does_not_fit_on_all_of_them_is_refused() -> None:
    with pytest.raises(OutOfMemory, match="memory plan for cpu:1"):
        require(plan(SPEECH, memory=GB // 2))


def test_devices_share_the_cores_unless_told_otherwise() -> None:
    options = EngineOptions(model="")
    cores = threads_each(options, ["cpu"])
    assert threads_each(options, ["cpu", "cpu:1"]) == max(1, cores // 2)
    assert threads_each(options, ["cuda", "cpu"]) == cores
    assert threads_each(EngineOptions(model="", threads=3), ["cpu", "cpu:1"]) == 3
