"""A model whose talker makes several codes a frame, through OpenAI's client: pictures and videos in, speech out."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from PIL import Image

from tests.api.serving import Serving, serving
from tests.media import files
from tests.models import checkpoints
from tests.models.checkpoints.omni3 import CODEBOOK
from tests.models.test_video import HEARD, SILENT

FRAMES = 12
TALKER = {"talker": {"temperature": 0.0, "max_tokens": FRAMES, "allowed_token_ids": list(range(CODEBOOK))}}
RED = files.saved(Image.new("RGB", (32, 24), "red"), "PNG")


@pytest.fixture(scope="module")
def speaking() -> Iterator[Serving]:
    with serving(model=str(checkpoints.cached("qwen3_omni"))) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(speaking: Serving) -> Iterator[openai.OpenAI]:
    with speaking.client() as made:
        yield made


def part(modality: str, data: bytes, kind: str) -> dict[str, Any]:
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": f"{modality}_url", f"{modality}_url": {"url": url}}


def ask(client: openai.OpenAI, *parts: dict[str, Any], spoken: str | None = None, **more: Any) -> Any:
    extra = {"ignore_eos": True, **({"stage_sampling": TALKER} if spoken else {}), **more.pop("extra", {})}
    speech = {"modalities": ["text", "audio"], "audio": {"voice": "Bea", "format": spoken}} if spoken else {}
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": [*parts, {"type": "text", "text": "Hi"}]}],
        temperature=0,
        max_tokens=6,
        extra_body=extra,
        **speech,
        **more,
    )


def test_what_is_seen_and_heard_is_answered_aloud(client: openai.OpenAI) -> None:
    tone = files.recording(files.tone(0.6), 16_000, "WAV")
    parts = [
        part("image", RED, "image/png"),
        part("audio", tone, "audio/wav"),
        part("video", SILENT, "video/mp4"),
    ]
    message = ask(client, *parts, spoken="wav").choices[0].message
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)), dtype="float32")
    assert message.audio.transcript and rate == 24_000
    assert (FRAMES - 1) * 1920 < len(samples) < FRAMES * 1920
    assert np.abs(samples).max() > 0


def test_a_stream_gives_the_same_sound_as_the_whole(client: openai.OpenAI) -> None:
    whole = ask(client, spoken="pcm16").choices[0].message.audio
    pieces = [
        base64.b64decode(chunk.choices[0].delta.audio.data or "")
        for chunk in ask(client, spoken="pcm16", stream=True)
        if chunk.choices and chunk.choices[0].delta.audio
    ]
    heard = np.frombuffer(b"".join(pieces), "<i2").astype(np.int32)
    wanted = np.frombuffer(base64.b64decode(whole.data), "<i2").astype(np.int32)
    assert sum(bool(piece) for piece in pieces) >= 2
    np.testing.assert_allclose(heard, wanted, atol=2)


def test_a_video_is_heard_when_that_is_asked_for(client: openai.OpenAI) -> None:
    video = part("video", HEARD, "video/mp4")
    how = {"mm_processor_kwargs": {"use_audio_in_video": True}}
    seen, heard = ask(client, video).usage.prompt_tokens, ask(client, video, extra=how).usage.prompt_tokens
    assert heard == seen + 2 + 43  # the marks of sound, and 3.3 seconds of it
    with pytest.raises(openai.BadRequestError, match="no sound track"):
        ask(client, part("video", SILENT, "video/mp4"), extra=how)
    with pytest.raises(openai.BadRequestError, match="fps"):
        ask(client, video, extra={"mm_processor_kwargs": {"fps": 3}})


def test_a_text_is_read_aloud(client: openai.OpenAI) -> None:
    talker = {"talker": {**TALKER["talker"], "max_tokens": 30}}
    response = client.audio.speech.create(
        model="tiny", voice="ada", input="Hi", response_format="wav", extra_body={"stage_sampling": talker}
    )
    samples, rate = soundfile.read(io.BytesIO(response.read()))
    assert rate == 24_000 and len(samples) > 29 * 1920
