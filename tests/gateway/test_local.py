"""The local engine as a backend: real engine, real processor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from tests.api.serving import CONTEXT, checkpoint
from tutti.engine.local import LocalEngine
from tutti.errors import ContextOverflow, InvalidRequest
from tutti.events import Done, Event, Failed, TextDelta, Usage
from tutti.gateway.gateway import Gateway
from tutti.gateway.local import LocalBackend
from tutti.models.processor import load_processor
from tutti.request import Chat, Request, SamplingParams, StructuredOutputs, Text, Tokens
from tutti.settings import EngineOptions


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[LocalBackend]:
    options = EngineOptions(
        model=str(checkpoint()), dtype="float32", device="cpu", threads=1, kv_cache_memory_bytes=30_000_000
    )
    engine = LocalEngine(options)
    made = await LocalBackend.open(load_processor(options.model), engine, ("tiny",), options.model)
    yield made
    stats = await made.stats()
    assert (stats.running, stats.waiting, stats.blocks_free) == (0, 0, stats.blocks_total)
    await made.close()


def ask(prompt: str = "abc", id: str = "r", **sampling: Any) -> Request:
    fields = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 12, **sampling}
    return Request(id=id, parts=(Text(prompt),), sampling=SamplingParams(**fields))


async def everything(backend: LocalBackend, request: Request) -> list[Event]:
    async with aclosing(backend.generate(request)) as events:
        return [event async for event in events]


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


async def test_a_stream_is_deltas_then_usage_then_the_end(backend: LocalBackend) -> None:
    events = await everything(backend, ask())
    *deltas, usage, done = events
    assert all(isinstance(delta, TextDelta) for delta in deltas)
    assert sum(len(delta.tokens) for delta in deltas if isinstance(delta, TextDelta)) == 12
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 12)
    assert usage.decode_time > 0
    assert done == Done("r", "length")
    assert backend.models()[0].root == str(checkpoint())


async def test_outputs_have_their_own_index_and_seed(backend: LocalBackend) -> None:
    request = ask(n=3, temperature=1.2, seed=40)
    events = await everything(backend, request)
    assert {event.request for event in events} == {"r"}
    texts = [text_of(events, index) for index in range(3)]
    assert len(set(texts)) == 3
    assert sorted(event.index for event in events if isinstance(event, Done)) == [0, 1, 2]
    alone = await everything(backend, ask(temperature=1.2, seed=42))
    assert text_of(alone) == texts[2]


async def test_a_stop_string_cancels_the_engine_and_keeps_the_account(backend: LocalBackend) -> None:
    text = text_of(await everything(backend, ask(max_tokens=200)))
    stop = text[4:6]
    before = await backend.stats()
    events = await everything(backend, ask(max_tokens=4000, stop=(stop,)))
    assert text_of(events) == text[: text.index(stop)]
    *_, usage, done = events
    assert done == Done("r", "stop", stop)
    assert isinstance(usage, Usage)
    tokens = sum(len(event.tokens) for event in events if isinstance(event, TextDelta))
    assert usage.completion_tokens == tokens
    assert usage.prefill_time > 0
    after = await backend.stats()
    assert after.generation_tokens - before.generation_tokens < 400  # it did not go on to the end


async def test_a_stop_string_may_be_part_of_the_answer(backend: LocalBackend) -> None:
    text = text_of(await everything(backend, ask(max_tokens=200)))
    stop = text[4:6]
    events = await everything(backend, ask(max_tokens=200, stop=(stop,), include_stop_str_in_output=True))
    assert text_of(events) == text[: text.index(stop) + len(stop)]


async def test_leaving_cancels_all_outputs_within_a_step(backend: LocalBackend) -> None:
    async with aclosing(backend.generate(ask(n=4, temperature=1.0, max_tokens=4000))) as events:
        async for _ in events:
            break
    at_leaving = await backend.stats()
    later = await backend.stats()
    assert later.running + later.waiting == 0
    assert later.steps - at_leaving.steps <= 1


async def test_the_context_is_kept_and_both_numbers_are_stated(backend: LocalBackend) -> None:
    with pytest.raises(ContextOverflow, match=f"{CONTEXT - 5}.*10 more.*{CONTEXT} tokens"):
        await backend.prepare(ask("x" * (CONTEXT - 5), max_tokens=10))
    with pytest.raises(ContextOverflow, match=str(CONTEXT)):
        await backend.prepare(ask("x" * CONTEXT))
    with pytest.raises(InvalidRequest, match="empty"):
        await backend.prepare(ask(""))
    prepared = await backend.prepare(ask("x" * (CONTEXT - 5), max_tokens=None))
    assert prepared.sampling.max_tokens == 5
    assert prepared == await backend.prepare(prepared)
    events = await everything(backend, prepared)
    assert isinstance(events[-1], Done)


async def test_a_long_conversation_is_tokenized_like_a_short_one(backend: LocalBackend) -> None:
    def chat(content: Any) -> Request:
        return Request(id="c", parts=(Chat(messages=({"role": "user", "content": content},)),))

    text = "y" * 30_000  # tokenized by a thread
    (whole,) = (await backend.tokenize(chat(text))).parts
    (parts,) = (await backend.tokenize(chat([{"type": "text", "text": text}]))).parts
    (short,) = (await backend.tokenize(chat("y"))).parts
    assert whole == parts
    assert isinstance(whole, Tokens)
    assert isinstance(short, Tokens)
    assert len(whole.ids) == len(short.ids) + len(text) - 1


async def test_one_requests_failure_is_one_requests_failure(backend: LocalBackend) -> None:
    gateway = Gateway([backend])
    wrong = ask(id="wrong", structured_outputs=StructuredOutputs(regex="("))
    good = await everything(backend, ask(id="good"))
    async with gateway.lease(backend.models()[0].name) as lease:
        failed = [event async for event in lease.generate(wrong)]
    assert isinstance(failed[-1], Failed)
    assert failed[-1].error.kind == "InvalidGrammar"
    assert text_of(await everything(backend, ask(id="again"))) == text_of(good)
    assert gateway.served[0].metrics.finished["error"] == 1
    assert gateway.served[0].admission.inside == 0


async def test_two_requests_of_one_name_do_not_disturb_each_other(backend: LocalBackend) -> None:
    async with aclosing(backend.generate(ask(max_tokens=50))) as first:
        await anext(first)
        second = await everything(backend, ask())
        assert isinstance(second[-1], Failed)
        assert "being served already" in second[-1].error.message
        rest = [event async for event in first]
    assert rest[-1] == Done("r", "length")


async def test_nothing_runs_when_nobody_asks(backend: LocalBackend) -> None:
    await everything(backend, ask())
    before = await backend.stats()
    for _ in range(5):
        await backend.stats()
    assert (await backend.stats()).steps == before.steps
