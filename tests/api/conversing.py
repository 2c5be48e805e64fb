"""A client of `/v1/realtime`: OpenAI's own, with what tests need around it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from tests.api.serving import Serving
from tutti.media.pcm import to_pcm16

RATE = 24_000
CODES = 50  # a second


def speech(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise with the rise and fall of syllables, which voice detectors take for speech."""
    count = int(seconds * rate)
    noise = np.random.default_rng(seed).standard_normal(count)
    return (0.1 * noise * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(count) / rate))).astype(np.float32)


def quiet(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(int(seconds * rate), np.float32)


def talker(codes: int) -> dict[str, Any]:
    """Sampling of a talker that says exactly so many codes."""
    return {
        "temperature": 0.0,
        "max_tokens": codes,
        "min_tokens": codes,
        "allowed_token_ids": list(range(64)),
    }


class Talk:
    """One session."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    async def next(self) -> Any:
        """The next event, of the client's own types."""
        event = await asyncio.wait_for(self.connection.recv(), 60)
        self.seen.append(event)
        return event

    async def until(self, *kinds: str) -> Any:
        """The next event of one of these types."""
        while (event := await self.next()).type not in kinds:
            assert event.type != "error", event
        return event

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send({"type": kind, **fields})  # type: ignore[arg-type]

    async def ask(self, kind: str, answer: str, **fields: Any) -> Any:
        """Send an event, and wait for one of type `answer`."""
        await self.send(kind, **fields)
        return await self.until(answer)

    async def refused(self, kind: str, **fields: Any) -> Any:
        """Send an event that is answered by an error."""
        await self.send(kind, event_id="mine", **fields)
        while (event := await self.next()).type != "error":
            pass
        assert event.error.event_id == "mine"
        return event.error

    async def update(self, **session: Any) -> Any:
        return (await self.ask("session.update", "session.updated", session=session)).session

    async def hear(self, *pieces: np.ndarray, step: float = 0.1, rate: int = RATE) -> None:
        """Send sound, `step` seconds at a time."""
        samples = np.concatenate(pieces)
        size = int(step * rate)
        for start in range(0, len(samples), size):
            data = base64.b64encode(to_pcm16(samples[start : start + size])).decode()
            await self.send("input_audio_buffer.append", audio=data)

    async def say(self, text: str, **fields: Any) -> Any:
        """A user's message."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        return (await self.ask("conversation.item.create", "conversation.item.done", item=item | fields)).item

    async def answer(self, **response: Any) -> Any:
        """Have it answer, to the end."""
        return (await self.ask("response.create", "response.done", response=response)).response

    async def retrieve(self, item_id: str) -> Any:
        return (
            await self.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)
        ).item

    def kinds(self) -> list[str]:
        """The types of all events so far."""
        return [event.type for event in self.seen]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.seen if event.type == kind]

    def sound(self) -> bytes:
        """All that was said aloud."""
        return b"".join(base64.b64decode(event.delta) for event in self.of("response.output_audio.delta"))


@asynccontextmanager
async def talking(
    served: Serving, model: str = "tiny", codes: int = 12, **session: Any
) -> AsyncIterator[Talk]:
    """A session that was greeted, and whose answers are six tokens long, unless `session` says otherwise."""
    async with served.async_client() as client, client.realtime.connect(model=model) as connection:
        talk = Talk(connection)
        assert (await talk.next()).type == "session.created"
        short = {"max_output_tokens": 6, "sampling": {"temperature": 0, "ignore_eos": True}}
        await talk.update(
            type="realtime", **(short | {"stage_sampling": {"talker": talker(codes)}} | session)
        )
        yield talk


def as_json(value: Any) -> Any:
    """What an object of the client's was on the wire."""
    return json.loads(value.to_json())
