"""A text is read aloud through OpenAI's client: whole, in a stream, as events, in every format."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.api.serving import Serving, serving, until
from tests.models.speech_checkpoints import roomy_omni
from tutti.api.stream import ByteStream
from tutti.errors import StageFailed
from tutti.media.audio import read_audio

RATE, CODE = 24_000, 480  # samples of a code


def talker(codes: int) -> dict[str, Any]:
    """Greedy, so many codes, none of them an end."""
    return {"talker": {"temperature": 0.0, "max_tokens": codes, "allowed_token_ids": list(range(64))}}


@pytest.fixture(scope="module")
def speaking() -> Iterator[Serving]:
    with serving(model=str(roomy_omni())) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(speaking: Serving) -> Iterator[openai.OpenAI]:
    with speaking.client() as made:
        yield made


def windows(speaking: Serving) -> int:
    """How many windows of sound were computed so far."""
    return next(stage.items for stage in speaking.stats().stages if stage.name == "token2wav")


def speak(client: openai.OpenAI, text: str = "Hello.", codes: int = 30, **options: Any) -> bytes:
    options = {"model": "tiny", "voice": "ada", "response_format": "wav"} | options
    body = {"stage_sampling": talker(codes)} | options.pop("extra_body", {})
    return client.audio.speech.create(input=text, extra_body=body, **options).read()


@pytest.mark.parametrize("format", ["mp3", "opus", "aac", "flac", "wav"])
@pytest.mark.parametrize("stream", [True, False])
def test_every_format_is_a_file_of_the_right_length(client: openai.OpenAI, format: str, stream: bool) -> None:
    data = speak(client, response_format=format, extra_body={"stream": stream})
    samples = read_audio(data, RATE)
    assert len(samples) / RATE == pytest.approx(30 * CODE / RATE, abs=0.12)


def test_mp3_is_what_comes_unless_another_format_is_asked_for(speaking: Serving) -> None:
    body = {"input": "Hello.", "model": "tiny", "stage_sampling": talker(12)}
    answer = httpx.post(f"{speaking.url}/v1/audio/speech", json=body)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert len(read_audio(answer.content, RATE)) / RATE == pytest.approx(0.24, abs=0.1)


def test_a_file_in_one_piece_tells_its_length(client: openai.OpenAI) -> None:
    with wave.open(io.BytesIO(speak(client, extra_body={"stream": False}))) as file:
        assert file.getnframes() == 30 * CODE and file.getframerate() == RATE


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_the_duration_follows_the_speed(client: openai.OpenAI, speed: float) -> None:
    samples = np.frombuffer(speak(client, codes=100, response_format="pcm", speed=speed), "<i2")
    assert len(samples) == pytest.approx(100 * CODE / speed, rel=0.05)


def test_the_first_bytes_come_while_the_rest_is_still_being_spoken(
    speaking: Serving, client: openai.OpenAI
) -> None:
    body = {"stage_sampling": talker(300)}
    request = client.audio.speech.with_streaming_response.create(
        model="tiny", input="Hello.", voice="ada", response_format="pcm", extra_body=body
    )
    with request as response:
        pieces = response.iter_bytes(1024)
        first = next(pieces)
        before = windows(speaking)
        made = len(first) + sum(map(len, pieces))
    assert made == 2 * 300 * CODE
    assert windows(speaking) > before


def test_who_leaves_in_the_middle_ends_the_work(speaking: Serving) -> None:
    async def leave() -> None:
        async with speaking.async_client() as client:
            request = client.audio.speech.with_streaming_response.create(
                model="tiny",
                input="Hello.",
                voice="ada",
                response_format="pcm",
                extra_body={"stage_sampling": talker(200)},
            )
            async with request as response:
                async for _ in response.iter_bytes(1024):
                    break

    before = speaking.stats()
    asyncio.run(leave())
    until(lambda: all(stage.waiting == 0 for stage in speaking.stats().stages))
    speaking.everything_is_returned()
    after = speaking.stats()
    assert after.requests == before.requests + 1 and after.failures == before.failures


def test_events_carry_the_same_sound_and_what_it_cost(speaking: Serving, client: openai.OpenAI) -> None:
    whole = speak(client, response_format="pcm")
    body = {"input": "Hello.", "model": "tiny", "response_format": "pcm", "stream_format": "sse"}
    answer = httpx.post(f"{speaking.url}/v1/audio/speech", json=body | {"stage_sampling": talker(30)})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == whole
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["output_tokens"] == 30 and usage["input_tokens"] > len("Hello.")
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_text_is_spoken_sentence_by_sentence(client: openai.OpenAI, stream: bool) -> None:
    text = "One sentence is here, by itself. And another sentence is there. The third one is the last."
    options = {"codes": 12, "response_format": "pcm", "extra_body": {"stream": stream}}
    assert len(speak(client, text, **options)) == 3 * 12 * CODE * 2


def test_twenty_listeners_are_served_together(speaking: Serving) -> None:
    async def one(client: openai.AsyncOpenAI) -> int:
        body = {"stage_sampling": talker(12)}
        answer = await client.audio.speech.create(
            model="tiny", input="Hello.", voice="ada", response_format="pcm", extra_body=body
        )
        return len(await answer.aread())

    async def all_of_them() -> list[int]:
        async with speaking.async_client() as client:
            return await asyncio.gather(*(one(client) for _ in range(20)))

    before = next(stage for stage in speaking.stats().stages if stage.name == "talker")
    assert asyncio.run(all_of_them()) == [2 * 12 * CODE] * 20
    after = next(stage for stage in speaking.stats().stages if stage.name == "talker")
    assert (after.items - before.items) / (after.steps - before.steps) > 2  # they shared steps
    speaking.everything_is_returned()


def test_voices_and_speaking_models_are_listed_for_open_webui(speaking: Serving) -> None:
    voices = httpx.get(f"{speaking.url}/v1/audio/voices").json()["voices"]
    assert {"id": "Ada", "name": "Ada", "model": "tiny"} in voices
    models = httpx.get(f"{speaking.url}/v1/audio/models").json()["models"]
    assert {"id": "tiny", "name": "tiny"} in models


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"voice": "alloy"}, "voice", "this model has Ada"),
        ({"speed": 5.0}, "speed", "between 0.25 and 4"),
        ({"input": " "}, "input", "must not be empty"),
        ({"response_format": "midi"}, "response_format", "midi"),
        ({"extra_body": {"stream_format": "x"}}, "stream_format", "x"),
        ({"extra_body": {"ref_audio": "data:"}}, "ref_audio", "not supported"),
    ],
)
def test_what_cannot_be_spoken_is_a_400_that_names_the_field(
    client: openai.OpenAI, options: dict[str, Any], field: str, message: str
) -> None:
    options = {"model": "tiny", "voice": "ada", "input": "Hello."} | options
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.audio.speech.create(**options)
    assert caught.value.param == field


async def test_a_file_that_cannot_be_finished_is_broken_off() -> None:
    sent: list[Any] = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"the beginning"
        raise StageFailed("no more")

    async def send(message: Any) -> None:
        sent.append(message)

    stream = await ByteStream.open(pieces(), "audio/wav")
    await stream({}, None, send)  # type: ignore[arg-type]
    assert [message.get("body") for message in sent] == [None, b"the beginning"]
    assert sent[-1]["more_body"]  # the server closes the connection: clients see that something is missing


def test_a_model_without_a_voice_says_what_it_gives() -> None:
    with serving() as mute, mute.client() as client:
        with pytest.raises(openai.BadRequestError, match="does not speak: it gives text"):
            client.audio.speech.create(model="tiny", voice="ada", input="Hello.")
        assert httpx.get(f"{mute.url}/v1/audio/voices").json() == {"voices": []}
