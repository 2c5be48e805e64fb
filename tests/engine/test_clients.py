"""The engine behind its client, in a thread and in a process: the same streams, cancellation, death and restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.models import checkpoints
from tutti.engine.client import EngineClient
from tutti.engine.local import LocalEngine
from tutti.engine.process import ProcessEngine
from tutti.engine.wire import EngineStats
from tutti.errors import CheckpointError, OutOfMemory
from tutti.events import Done, Event, Failed, TextDelta, Usage
from tutti.request import Request, SamplingParams, StructuredOutputs, Tokens
from tutti.settings import EngineOptions

KINDS = {"thread": LocalEngine, "process": ProcessEngine}


def options(**changes: object) -> EngineOptions:
    values = {
        "dtype": "float32",
        "memory": 2_000_000_000,
        "max_model_len": 256,
        "threads": 1,
        "block_size": 8,
    }
    return EngineOptions(model=str(checkpoints.cached("llama")), device="cpu", **(values | changes))  # type: ignore[arg-type]


@pytest.fixture(params=KINDS)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[EngineClient]:
    client = KINDS[request.param](options())
    await client.ready()
    yield client
    await client.close()


def ask(name: str, tokens: int = 8, prompt: int = 12, **sampling: object) -> Request:
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, **sampling)  # type: ignore[arg-type]
    return Request(id=name, parts=(Tokens(tuple(range(prompt))),), sampling=params)


def text(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TextDelta) for token in event.tokens]


async def until(condition: Callable[[EngineStats], bool], engine: EngineClient) -> EngineStats:
    """The engine's statistics once they fulfil `condition`; fails after 20 seconds."""
    async with asyncio.timeout(20):
        while not condition(stats := await engine.stats()):
            await asyncio.sleep(0.01)
    return stats


def idle(stats: EngineStats) -> bool:
    return stats.running == stats.waiting == 0 and stats.blocks_free == stats.blocks_total


async def test_a_stream_is_deltas_then_usage_then_done(engine: EngineClient) -> None:
    events = await engine.complete(ask("a"))
    assert isinstance(events[-1], Done) and events[-1].reason == "length"
    assert isinstance(events[-2], Usage)
    assert (events[-2].prompt_tokens, events[-2].completion_tokens) == (12, 8)
    assert len(text(events)) == 8


async def test_requests_at_once_get_the_answers_they_get_alone(engine: EngineClient) -> None:
    alone = [text(await engine.complete(ask(f"alone{n}", prompt=n))) for n in (3, 17, 40)]
    together = await asyncio.gather(*(engine.complete(ask(f"both{n}", prompt=n)) for n in (3, 17, 40)))
    assert [text(events) for events in together] == alone


async def test_leaving_a_stream_gives_everything_back(engine: EngineClient) -> None:
    async with aclosing(engine.generate(ask("long", tokens=200))) as events:
        async for _ in events:
            break
    stats = await until(idle, engine)
    assert stats.generation_tokens < 200


async def test_a_cancelled_stream_ends_with_what_it_cost(engine: EngineClient) -> None:
    events = []
    async for event in engine.generate(ask("long", tokens=200)):
        events.append(event)
        if len(text(events)) == 3:
            engine.cancel("long")
    assert isinstance(events[-1], Done) and events[-1].reason == "cancelled"
    assert isinstance(events[-2], Usage) and 3 <= events[-2].completion_tokens < 200
    await until(idle, engine)


async def test_what_cannot_be_served_fails_alone(engine: EngineClient) -> None:
    good = asyncio.create_task(engine.complete(ask("good", tokens=30)))
    long = await engine.complete(ask("long", prompt=255, tokens=1))
    outside = await engine.complete(Request(id="x", parts=(Tokens((100000,)),)))
    schema = StructuredOutputs(json={"type": "no such type"})
    grammar = await engine.complete(ask("g", structured_outputs=schema))
    empty = await engine.complete(Request(id="e", parts=(Tokens(()),)))
    for events, kind in (
        (long, None),
        (outside, "InvalidRequest"),
        (grammar, "InvalidGrammar"),
        (empty, "InvalidRequest"),
    ):
        last = events[-1]
        assert (
            isinstance(last, Done) if kind is None else (isinstance(last, Failed) and last.error.kind == kind)
        )
    assert len(text(await good)) == 30
    await until(idle, engine)


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(engine: EngineClient) -> None:
    (event,) = await engine.complete(ask("long", prompt=256))
    assert isinstance(event, Failed) and event.error.kind == "ContextOverflow"
    assert "256 tokens" in event.error.message


async def test_a_killed_process_fails_its_requests_and_is_restarted() -> None:
    engine = ProcessEngine(options())
    try:
        first = await engine.ready()
        stream = engine.generate(ask("victim", tokens=200))
        await anext(stream)
        os.kill(first.pid, signal.SIGKILL)
        events = [event async for event in stream]
        assert isinstance(events[-1], Failed) and events[-1].error.kind == "EngineDied"
        async with asyncio.timeout(60):
            second = await engine.ready()
        assert second.pid != first.pid
        assert len(text(await engine.complete(ask("next")))) == 8
        assert await until(idle, engine)
    finally:
        await engine.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_keeps_the_engine_from_starting_is_told(kind: str, tmp_path: Path) -> None:
    empty = KINDS[kind](EngineOptions(model=str(tmp_path)))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        await empty.ready()
    await empty.close()
    small = KINDS[kind](options(memory=100_000_000))
    with pytest.raises(OutOfMemory, match="total"):
        await small.ready()
    await small.close()
