"""A part of a composition dies by SIGKILL in the middle of an answer: the request fails by its name; another comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import openai
import pytest

from tests.api.serving import Serving, serving, until
from tests.models.composed import CODES, composed
from tutti.engine.process import ProcessEngine
from tutti.gateway.composed.backend import ComposedBackend

pytestmark = pytest.mark.timeout(600)  # several engines are loaded, twice
EDGES = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    file = composed(tmp_path_factory.mktemp("assistant"), EDGES)
    options = {"served_model_name": (), "kv_cache_memory_bytes": None, "memory": 4_000_000_000}
    with serving(model=str(file), composed=False, **options) as served:
        yield served
        served.everything_is_returned()


def pid(assistant: Serving, name: str) -> int:
    backend = assistant.gateway.served[0].backend
    assert isinstance(backend, ComposedBackend)
    engine = backend.parts[name].backend.engine
    assert isinstance(engine, ProcessEngine) and engine.pid is not None
    return engine.pid


def speaking(client: openai.OpenAI, text: str, codes: int) -> Any:
    """A stream of `text` as the answer, aloud."""
    talker = msgspec.to_builtins(CODES["voice.talker"]) | {"max_tokens": codes}
    return client.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": "Hello"}],
        modalities=["text", "audio"],
        audio={"voice": "ada", "format": "pcm16"},
        temperature=0,
        max_tokens=1900,
        stream=True,
        extra_body={"stage_sampling": {"voice.talker": talker}, "structured_outputs": {"regex": text}},
    )


def healthy(assistant: Serving) -> bool:
    return httpx.get(f"{assistant.url}/health").status_code == 200


@pytest.mark.parametrize(("part", "text"), [("voice", "One\\. Two\\."), ("brain", "One\\. [a-z ]{1850}")])
def test_a_killed_part_fails_the_request_by_name_and_is_replaced(
    assistant: Serving, part: str, text: str
) -> None:
    before = pid(assistant, part)
    with assistant.client(timeout=120) as client:
        stream = speaking(client, text, codes=1000)
        for chunk in stream:
            audio = chunk.choices[0].delta.audio
            if audio is not None and (audio.data or part == "brain"):
                break
        os.kill(before, signal.SIGKILL)
        with pytest.raises(openai.APIError, match=f"{part}: the engine process ended") as caught:
            for _ in stream:
                pass
        assert caught.value.code == "engine_died"
        assert httpx.get(f"{assistant.url}/metrics").status_code == 200
        until(lambda: healthy(assistant), 120)
        assert pid(assistant, part) != before
        assert [chunk for chunk in speaking(client, "Yes\\.", codes=10) if chunk.choices[0].delta.audio]
    assistant.everything_is_returned()
