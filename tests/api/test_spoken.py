"""A model that speaks answers aloud through OpenAI's client, whole and in a stream."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from tests.api.serving import Serving, serving
from tests.models import checkpoints

# Twelve codes, none of them an end.
TALKER = {"talker": {"temperature": 0.0, "max_tokens": 12, "allowed_token_ids": list(range(64))}}


@pytest.fixture(scope="module")
def speaking() -> Iterator[Serving]:
    with serving(model=str(checkpoints.cached("qwen2_5_omni"))) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(speaking: Serving) -> Iterator[openai.OpenAI]:
    with speaking.client() as made:
        yield made


def ask(client: openai.OpenAI, format: str, voice: str = "ada", **options: Any) -> Any:
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Hello"}],
        modalities=["text", "audio"],
        audio={"voice": voice, "format": format},
        temperature=0,
        max_tokens=6,
        extra_body={"ignore_eos": True, "stage_sampling": TALKER},
        **options,
    )


def decoded(data: str) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert rate == 24_000
    return samples


def test_an_answer_comes_with_its_sound_and_its_transcript(client: openai.OpenAI) -> None:
    answer = ask(client, "wav")
    message = answer.choices[0].message
    assert message.content is None
    assert message.audio.transcript
    assert message.audio.id.startswith("audio_")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    samples = decoded(message.audio.data)
    assert len(samples) == 12 * 480  # 50 codes a second
    assert np.abs(samples).max() > 0


@pytest.mark.parametrize("format", ["flac", "mp3", "opus"])
def test_every_format_is_a_file_of_the_same_length(client: openai.OpenAI, format: str) -> None:
    samples, rate = soundfile.read(
        io.BytesIO(base64.b64decode(ask(client, format).choices[0].message.audio.data))
    )
    assert len(samples) / rate == pytest.approx(12 / 50, abs=0.1)


def test_a_stream_gives_the_same_sound_and_transcript(client: openai.OpenAI) -> None:
    whole = ask(client, "pcm16").choices[0].message.audio
    ids, transcript, data, ends = [], "", b"", []
    for chunk in ask(client, "pcm16", stream=True):
        choice = chunk.choices[0]
        assert not choice.delta.content
        audio = choice.delta.audio
        if audio is None:
            continue
        ids += [audio.id] if audio.id else []
        transcript += audio.transcript or ""
        data += base64.b64decode(audio.data or "")
        ends += [audio.expires_at] if audio.expires_at else []
    assert len(ids) == len(ends) == 1
    assert transcript == whole.transcript
    assert data == base64.b64decode(whole.data)


def test_a_voice_that_is_not_there_is_a_400_that_names_those_that_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="this model has Ada"):
        ask(client, "wav", voice="alloy")


def test_a_stage_that_is_not_there_is_a_400_that_names_those_that_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="there are thinker, talker"):
        client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Hello"}],
            extra_body={"stage_sampling": {"mouth": {}}},
        )


def test_every_stage_tells_what_it_did(speaking: Serving, client: openai.OpenAI) -> None:
    ask(client, "wav")
    lines = httpx.get(f"{speaking.url}/metrics").text.splitlines()
    for stage in ("thinker", "talker", "token2wav"):
        (steps,) = (
            line for line in lines if line.startswith("tutti_stage_steps_total") and f'"{stage}"' in line
        )
        assert float(steps.split()[-1]) > 0


def test_who_asks_for_text_gets_text_alone(client: openai.OpenAI) -> None:
    message = (
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}], temperature=0, max_tokens=6
        )
        .choices[0]
        .message
    )
    assert message.content and message.audio is None
