"""A text-to-speech model behind OpenAI's door: voices, streams, listeners who leave, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.api.serving import Serving, serving, until
from tests.models.speech_checkpoints import CODEBOOK, qwen3_tts

FRAME = 1920  # samples


def endless(frames: int) -> dict[str, Any]:
    """So many frames, and never an end."""
    said = list(range(CODEBOOK))
    return {"talker": {"temperature": 0.0, "max_tokens": frames, "allowed_token_ids": said}}


@pytest.fixture(scope="module")
def speaking() -> Iterator[Serving]:
    with serving(model=str(qwen3_tts())) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(speaking: Serving) -> Iterator[openai.OpenAI]:
    with speaking.client() as made:
        yield made


def speak(client: openai.OpenAI, text: str = "Hello.", frames: int = 10, **options: Any) -> np.ndarray:
    body = {"stage_sampling": endless(frames)} | options.pop("extra_body", {})
    options = {"voice": "ada", "response_format": "pcm"} | options
    answer = client.audio.speech.create(model="tiny", input=text, extra_body=body, **options)
    return np.frombuffer(answer.read(), "<i2").astype(np.float32) / 32768


def test_voices_are_listed_and_sound_different(speaking: Serving, client: openai.OpenAI) -> None:
    voices = [voice["id"] for voice in httpx.get(f"{speaking.url}/v1/audio/voices").json()["voices"]]
    assert voices[:3] == ["ada", "bea", "cheng"]
    ada, bea = speak(client), speak(client, voice="Bea")
    assert len(ada) == len(bea) == 10 * FRAME
    assert np.abs(ada - bea).max() > 0.1


def test_language_and_instructions_are_heeded(client: openai.OpenAI) -> None:
    plain = speak(client)
    for other in ({"instructions": "Whisper."}, {"extra_body": {"language": "en"}}):
        assert np.abs(speak(client, **other) - plain).max() > 0.05
    with pytest.raises(openai.BadRequestError, match="this model has chinese, english") as caught:
        speak(client, extra_body={"language": "klingon"})
    assert caught.value.param == "language"


def test_speed_halves_the_duration(client: openai.OpenAI) -> None:
    assert len(speak(client, frames=30, speed=2.0)) == pytest.approx(15 * FRAME, rel=0.05)


def test_a_file_and_a_stream_are_the_same(client: openai.OpenAI) -> None:
    streamed, whole = speak(client, frames=40), speak(client, frames=40, extra_body={"stream": False})
    np.testing.assert_allclose(streamed, whole, atol=1e-3)


def test_a_long_text_is_spoken_sentence_by_sentence(client: openai.OpenAI) -> None:
    text = "This is the first of the sentences here. And this one is another sentence. The last one is it."
    assert len(speak(client, text, frames=3)) == 3 * 3 * FRAME


def test_who_leaves_in_the_middle_ends_the_work(speaking: Serving) -> None:
    async def leave() -> None:
        async with speaking.async_client() as client:
            request = client.audio.speech.with_streaming_response.create(
                model="tiny",
                input="Hello.",
                voice="ada",
                response_format="pcm",
                extra_body={"stage_sampling": endless(500)},
            )
            async with request as response:
                async for _ in response.iter_bytes(1024):
                    break

    before = speaking.stats()
    asyncio.run(leave())
    until(lambda: speaking.stats().running == 0)
    speaking.everything_is_returned()
    after = speaking.stats()
    assert after.requests == before.requests + 1 and after.failures == before.failures
    assert after.generation_tokens - before.generation_tokens < 500


def test_twenty_texts_are_spoken_together(speaking: Serving) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> int:
        answer = await client.audio.speech.create(
            model="tiny",
            input=f"This is number {number}.",
            voice=["ada", "bea", "cheng"][number % 3],
            response_format="pcm",
            extra_body={"stage_sampling": endless(8)},
        )
        return len(await answer.aread())

    async def all_of_them() -> list[int]:
        async with speaking.async_client() as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    before = next(stage for stage in speaking.stats().stages if stage.name == "talker")
    assert asyncio.run(all_of_them()) == [2 * 8 * FRAME] * 20
    after = next(stage for stage in speaking.stats().stages if stage.name == "talker")
    assert (after.items - before.items) / (after.steps - before.steps) > 2  # they shared steps
    speaking.everything_is_returned()


def test_a_conversation_is_refused_in_words_that_say_what_it_gives(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="the model gives audio, not text"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hello"}])
