"""`/v1/audio/generate`, and what Python is given of the same."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import openai
import pytest
import soundfile

import tutti
from tests.api.serving import Serving, managing, serving, until
from tests.api.stocked import add
from tests.models.sound_pipelines import RATE, sound_pipeline
from tutti.gateway.catalog import Catalog
from tutti.hub.store import Store
from tutti.media.audio import read_audio
from tutti.media.container import open_container, read_note
from tutti.media.pcm import from_pcm16

ASKED: dict[str, Any] = {"prompt": "rain", "seconds": 0.5, "num_inference_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def studio() -> Iterator[Serving]:
    """A server with a tiny random model that makes sounds."""
    with serving(model=str(sound_pipeline()[1]), memory=3_000_000_000, kv_cache_memory_bytes=None) as served:
        yield served


def ask(studio: Serving, **fields: Any) -> httpx.Response:
    return httpx.post(f"{studio.url}/v1/audio/generate", json=ASKED | fields, timeout=60)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus", "aac"])
def test_a_sound_comes_as_a_file_that_says_how_it_was_made(studio: Serving, format: str) -> None:
    answer = ask(studio, response_format=format, negative_prompt="blue")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("audio/")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert len(read_audio(answer.content, 8000)) / 8000 == pytest.approx(0.5, abs=0.15)
    with open_container(answer.content) as container:
        assert container.streams.audio[0].channels == 2
    if format == "aac":
        return
    note = json.loads(read_note(answer.content))
    assert (note["prompt"], note["negative_prompt"], note["seed"], note["seconds"]) == (
        "rain",
        "blue",
        3,
        0.5,
    )
    again = httpx.post(f"{studio.url}/v1/audio/generate", json=note | {"response_format": format}, timeout=60)
    if format != "opus":  # whose streams have a random number
        assert again.content == answer.content  # the note is the request


def test_python_is_given_the_same_samples(studio: Serving) -> None:
    answer = ask(studio, response_format="pcm")
    assert answer.headers["content-type"] == f"audio/pcm; rate={RATE}; channels=2"
    theirs = from_pcm16(answer.content).reshape(-1, 2)
    folder = str(sound_pipeline()[1])
    with tutti.Omni(folder, dtype="float32", memory="3GB", threads=1, device="cpu") as omni:
        made = omni.generate(text="rain", seconds=0.5, steps=2, seed=3)
        with pytest.raises(tutti.errors.InvalidRequest, match="size is for models that draw"):
            omni.generate(text="rain", size="16x16")
    assert made.audio is not None and made.rate == RATE and made.audio.shape == (RATE // 2, 2)
    assert np.array_equal(made.audio, theirs)
    for format in ("wav", "flac"):
        file = io.BytesIO(ask(studio, response_format=format).content)
        samples, rate = soundfile.read(file, dtype="float32")
        assert rate == RATE and np.array_equal(samples, theirs)


def test_the_names_of_vllm_omni_mean_the_same(studio: Serving) -> None:
    body = {"input": "rain", "audio_length": 0.3, "audio_start": 0.1, "num_inference_steps": 2, "seed": 3}
    theirs = httpx.post(f"{studio.url}/v1/audio/generate", json=body | {"speed": 1.0}, timeout=60)
    assert theirs.status_code == 200 and theirs.content == ask(studio, seconds=0.3, seconds_start=0.1).content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seconds": 50}, "seconds"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"seconds_start": 0.7}, "seconds"),
        ({"seconds_start": 2}, "seconds_start"),
        ({"audio_length": 0.2}, "audio_length"),
        ({"n": 2}, "n"),
        ({"speed": 2}, "speed"),
        ({"stream_format": "sse"}, "stream_format"),
        ({"num_inference_steps": 10_000}, "num_inference_steps"),
        ({"guidance_scale": -2}, "guidance_scale"),
        ({"seed": 1 << 70}, "seed"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x" * 600}, "prompt"),
        ({"response_format": "midi"}, "response_format"),
    ],
)
def test_what_makes_no_sense_is_refused_in_openais_shape(
    studio: Serving, fields: dict[str, object], param: str
) -> None:
    answer = ask(studio, **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    studio.everything_is_returned()


def test_who_leaves_stops_the_work(studio: Serving) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{studio.url}/v1/audio/generate",
            json=ASKED | {"num_inference_steps": 1000},
            timeout=httpx.Timeout(30, read=0.3),
        )
    until(lambda: studio.gateway.served[0].admission.inside == 0)
    studio.everything_is_returned()


def test_the_metrics_count_its_steps(studio: Serving) -> None:
    def steps() -> float:
        name = 'tutti_stage_items_total{model_name="tiny",stage="denoiser"}'
        lines = httpx.get(f"{studio.url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    before = steps()
    ask(studio)
    assert steps() == before + 2


def test_a_model_that_makes_sounds_does_nothing_else(studio: Serving, server: Serving) -> None:
    with studio.client() as client:
        with pytest.raises(openai.BadRequestError, match=r"makes sounds|chat template"):
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError, match="does not speak: it gives sound"):
            client.audio.speech.create(model="tiny", voice="ada", input="hi")
        with pytest.raises(openai.BadRequestError, match="does not draw: it gives sound"):
            client.images.generate(model="tiny", prompt="hi")
    assert httpx.get(f"{studio.url}/v1/audio/models").json() == {"models": []}
    answer = ask(server)
    assert answer.status_code == 400 and "makes no sounds: it gives text" in answer.json()["error"]["message"]


def test_a_model_of_the_store_is_loaded_when_somebody_wants_a_sound(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    add(store, "rain", f"FROM {sound_pipeline()[1]}\n")
    with managing(Catalog(store), memory=4_000_000_000) as served:
        door = ollama.Client(served.url, timeout=60)
        assert door.show("rain").capabilities == ["sound"] and not door.ps().models
        answer = ask(served, model="rain")
        assert answer.status_code == 200 and answer.content[:4] == b"RIFF"
        assert [model.model for model in door.ps().models] == ["rain:latest"]
        served.everything_is_returned()
