"""Stages on devices of their own, each a process: the same answers, bounded queues, failures that stay put."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models import checkpoints
from tests.models.test_omni import NAME, PROMPTS, Served
from tutti import Omni
from tutti.engine.core import Engine
from tutti.engine.credits import ON_THE_WAY
from tutti.engine.device import Device
from tutti.engine.machine import peak_memory
from tutti.errors import CheckpointError
from tutti.events import AudioDelta, Failed, TextDelta
from tutti.llm.answerers import Alone
from tutti.request import Request, SamplingParams
from tutti.settings import EngineOptions

PLACEMENTS = {
    "sound beside": {"token2wav": "cpu:1"},
    "speech beside": {"talker": "cpu:1", "token2wav": "cpu:1"},
    "all over": {"audio": "cpu:1", "vision": "cpu:1", "talker": "cpu:2"},
}


@pytest.fixture(scope="module")
def alone() -> Served:
    """All stages on one device."""
    return Served()


@pytest.fixture(scope="module")
def beside() -> Iterator[Served]:
    """Speech on a device of its own."""
    yield from placed("speech beside")


@pytest.fixture(scope="module")
def scattered() -> Iterator[Served]:
    """Every edge leads to another device."""
    yield from placed("all over")


@pytest.fixture(scope="module")
def sounding() -> Iterator[Served]:
    """Sound on a device of its own, behind a talker on the main one."""
    yield from placed("sound beside")


def placed(name: str) -> Iterator[Served]:
    served = Served(placement=PLACEMENTS[name])
    yield served
    served.engine.close()


def until(served: Served, condition: Callable[[], bool], limit: float = 200.0) -> None:
    """Let the loop run, without waiting for messages, until `condition`."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        rounds = iter((False, True))
        served.engine.loop.run_until(lambda: next(rounds))  # noqa: B023 - it is called here and now
        time.sleep(0.0005)


def spoken(served: Served, name: str, codes: int, **changes: Any) -> Request:
    """A request whose answer has so many codes of sound."""
    request = served.processor.prepare(served.request("text", ("text", "audio")))
    talker = SamplingParams(temperature=0.0, max_tokens=codes, allowed_token_ids=tuple(range(64)))
    return msgspec.structs.replace(request, id=name, stage_sampling={"talker": talker}, **changes)


def device(served: Served) -> Device:
    (one,) = served.engine.devices
    return one


def nothing_is_left(served: Served) -> None:
    """Every stage, wherever it is, comes to hold nothing."""

    def idle() -> bool:
        return all(stage.waiting == 0 and stage.kv_usage == 0 for stage in served.engine.stats().stages)

    until(served, idle)
    assert not any(one.requests for one in served.engine.devices)


@pytest.mark.parametrize("where", ["sounding", "beside", "scattered"])
def test_tokens_and_sound_are_those_of_one_process(
    alone: Served, where: str, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(where)
    assert served.engine.info.voices == ("Ada",)
    together = served.ask(*PROMPTS)
    for name, (tokens, samples) in zip(PROMPTS, together, strict=True):
        ((expected, sound),) = alone.ask(name)
        assert tokens == expected
        np.testing.assert_array_equal(samples, sound)
    nothing_is_left(served)
    until(served, lambda: min(stage.steps for stage in served.engine.stats().stages) > 0)  # all have reported
    assert served.engine.stats().memory_peak > peak_memory() + 10**8  # the processes beside count, too


def test_a_listener_hears_the_same_in_pieces(alone: Served, beside: Served) -> None:
    (one,) = alone.run(spoken(alone, "live", 150, live=True))
    beside.engine.loop.submit(spoken(beside, "live", 150, live=True))
    until(beside, lambda: bool(beside.ended()))
    pieces = [event for event in beside.events if isinstance(event, AudioDelta)]
    tokens, samples = beside.answer("live")
    beside.events.clear()
    assert len(pieces) >= 3 and tokens == one[0]
    np.testing.assert_array_equal(samples, one[1])


def test_two_devices_compute_at_the_same_time(beside: Served) -> None:
    beside.traces.clear()
    beside.engine.loop.submit(spoken(beside, "heard", 240, live=True))
    until(beside, lambda: any(isinstance(event, AudioDelta) for event in beside.events))
    long = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    text = msgspec.structs.replace(spoken(beside, "read", 1), modalities=("text",), sampling=long)
    beside.engine.loop.submit(text)
    until(beside, lambda: len(beside.ended()) == 2)
    beside.events.clear()
    passages = {(trace.request, stage.name): stage.steps for trace in beside.traces for stage in trace.stages}
    here, there = passages["read", "thinker"], passages["heard", "token2wav"]
    assert len(here) == 60 and len(there) >= 3
    assert any(one.start < other.end and other.start < one.end for one in here for other in there)


def test_a_source_rests_while_a_slow_destination_has_enough(alone: Served, sounding: Served) -> None:
    codes = 3 * ON_THE_WAY
    (expected,) = alone.run(spoken(alone, "slow", codes))
    pid = device(sounding).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        before = sounding.engine.followers[0].generation_tokens
        sounding.engine.loop.submit(spoken(sounding, "slow", codes))
        while sounding.engine.loop.turn():
            pass
        made = sounding.engine.followers[0].generation_tokens - before
        assert ON_THE_WAY <= made <= ON_THE_WAY + 1
    finally:
        os.kill(pid, signal.SIGCONT)
    until(sounding, lambda: bool(sounding.ended()))
    tokens, samples = sounding.answer("slow")
    sounding.events.clear()
    assert tokens == expected[0]
    np.testing.assert_array_equal(samples, expected[1])


def test_a_stage_beside_rests_while_the_main_loop_is_slow(alone: Served, scattered: Served) -> None:
    codes = 3 * ON_THE_WAY
    (expected,) = alone.run(spoken(alone, "slow", codes))
    talking = scattered.engine.devices[1]
    scattered.engine.loop.submit(spoken(scattered, "slow", codes))
    until(
        scattered, lambda: sum(isinstance(event, TextDelta) for event in scattered.events) == len(expected[0])
    )
    before = -1.0
    while before != _cpu_time(talking.pid):  # and nobody turns the main loop
        before = _cpu_time(talking.pid)
        time.sleep(0.3)
    assert scattered.engine.loop.inbox.qsize() <= 2 * ON_THE_WAY + 20  # a chunk and a trace for each code
    until(scattered, lambda: bool(scattered.ended()))
    tokens, samples = scattered.answer("slow")
    scattered.events.clear()
    assert tokens == expected[0]
    np.testing.assert_array_equal(samples, expected[1])


def test_a_killed_process_fails_its_requests_alone_and_is_started_again(
    alone: Served, beside: Served
) -> None:
    loop, there = beside.engine.loop, device(beside)
    text = msgspec.structs.replace(spoken(beside, "reader", 1), modalities=("text",))
    loop.submit(spoken(beside, "speaker", 240, live=True))
    until(beside, lambda: any(isinstance(event, AudioDelta) for event in beside.events))
    assert there.pid is not None
    os.kill(there.pid, signal.SIGKILL)
    loop.submit(text)
    until(beside, lambda: len(beside.ended()) == 2)
    failed = next(event for event in beside.ended() if isinstance(event, Failed))
    assert (failed.request, failed.error.kind, failed.error.stage) == ("speaker", "StageFailed", "talker")
    assert "talker and token2wav ended (SIGKILL)" in failed.error.message
    assert beside.answer("reader")[0] == alone.ask("text")[0][0]
    beside.events.clear()

    loop.submit(
        spoken(beside, "early", 20)
    )  # it is told to come back, or served if the process is there again
    until(beside, lambda: bool(beside.ended()))
    (ended,) = beside.ended()
    assert not isinstance(ended, Failed) or ended.error.kind == "Busy"
    beside.events.clear()

    until(beside, lambda: there.restarts == 1 and there.serving)
    ((tokens, samples),) = beside.ask("text")
    ((expected, sound),) = alone.ask("text")
    assert tokens == expected
    np.testing.assert_array_equal(samples, sound)
    nothing_is_left(beside)


def test_a_process_that_gave_all_it_had_takes_nobody_with_it(alone: Served, scattered: Served) -> None:
    encoders, talking = scattered.engine.devices
    assert encoders.stages == ("audio", "vision") and encoders.pid is not None
    asked = scattered.request("both, twice", ("text",))
    scattered.engine.loop.submit(scattered.processor.prepare(asked))
    until(scattered, lambda: any(isinstance(event, TextDelta) for event in scattered.events))
    os.kill(encoders.pid, signal.SIGKILL)
    until(scattered, lambda: bool(scattered.ended()) and not encoders.serving)
    assert scattered.answer("both, twice")[0] == alone.ask("both, twice", modalities=("text",))[0][0]
    scattered.events.clear()
    assert talking.restarts == 0


@pytest.mark.parametrize("texts", [0, 1, 5])
def test_a_listener_who_leaves_leaves_nothing_behind(beside: Served, texts: int) -> None:
    def said() -> int:
        return sum(isinstance(event, TextDelta) for event in beside.events)

    beside.engine.loop.submit(spoken(beside, "gone", 500, live=True))
    until(beside, lambda: said() >= texts)
    beside.engine.loop.cancel("gone")
    beside.events.clear()
    nothing_is_left(beside)
    assert not beside.events


def test_a_voice_that_is_not_there_is_refused_by_the_stage_beside(beside: Served) -> None:
    beside.engine.loop.submit(msgspec.structs.replace(spoken(beside, "mute", 5), voice="Nobody"))
    until(beside, lambda: bool(beside.ended()))
    (failed,) = beside.ended()
    beside.events.clear()
    assert isinstance(failed, Failed) and failed.error.kind == "InvalidRequest"
    assert "this model has Ada" in failed.error.message
    nothing_is_left(beside)


def test_an_idle_device_uses_no_processor(beside: Served) -> None:
    nothing_is_left(beside)
    before = _cpu_time(device(beside).pid)
    time.sleep(0.5)
    assert _cpu_time(device(beside).pid) - before <= 0.02


def test_two_talkers_that_do_not_fit_at_once_both_speak(alone: Served) -> None:
    expected = alone.run(spoken(alone, "a", 90), spoken(alone, "b", 90))
    tight = {"max_model_len": 64, "kv_cache_memory_bytes": 1}
    for placement in ({}, PLACEMENTS["speech beside"]):
        served = Served(placement=placement, **tight)
        plans = (served.engine.plan, *served.engine.plan.beside)
        pool = next(plan.followers["talker"] for plan in plans if plan.followers)
        assert pool.blocks[0] - 1 < 2 * (90 // 8)  # of 8 tokens: one of them fills more than half
        for one in ("a", "b"):
            served.engine.loop.submit(spoken(served, one, 90, live=one == "a"))
        until(served, lambda served=served: len(served.ended()) == 2)  # type: ignore[misc]
        for name, (tokens, samples) in zip("ab", expected, strict=True):
            got, sound = served.answer(name)
            assert got == tokens and sound.shape == samples.shape
        np.testing.assert_array_equal(served.answer("b")[1], expected[1][1])
        nothing_is_left(served)
        served.engine.close()


def test_a_process_that_cannot_start_keeps_the_engine_from_starting(tmp_path: Path) -> None:
    path = copytree(checkpoints.cached(NAME), tmp_path / "mute")
    (path / "spk_dict.pt").unlink()
    options = EngineOptions(
        model=str(path), device="cpu", memory=2 * 10**9, placement=PLACEMENTS["speech beside"], threads=1
    )
    with pytest.raises(CheckpointError, match=r"spk_dict\.pt"):
        Engine(options, lambda events: None)


def test_the_python_door_places_stages_and_ends_their_processes() -> None:
    omni = Omni(
        str(checkpoints.cached(NAME)),
        dtype="float32",
        device="cpu",
        memory="2GB",
        threads=1,
        placement={"token2wav": "cpu:1"},
    )
    codes = {"talker": SamplingParams(temperature=0.0, max_tokens=12, allowed_token_ids=tuple(range(64)))}
    answer = omni.generate(text="hi", modalities=["text", "audio"], stage_sampling=codes)
    assert answer.audio is not None and len(answer.audio) == 12 * 480
    assert isinstance(omni._answerer, Alone)
    (one,) = omni._answerer.engine.devices
    omni.close()
    assert not Path(f"/proc/{one.pid}").exists()


def _cpu_time(pid: int | None) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
