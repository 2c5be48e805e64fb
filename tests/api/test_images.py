"""`/v1/images/generations`, driven by the official client."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama
import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, managing, serving, until
from tests.api.stocked import add
from tests.models.pipelines import adapter_file, pipeline
from tutti.gateway.catalog import Catalog
from tutti.hub.store import Store
from tutti.media.image import read_note

SMALL = {"size": "16x16", "num_inference_steps": 2, "guidance_scale": 2.0, "seed": 3}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a tiny random model that draws, and an adapter."""
    ink = adapter_file("z_image", tmp_path_factory.mktemp("adapters"), 1)
    with serving(
        model=str(pipeline("z_image")[1]),
        memory=3_000_000_000,
        kv_cache_memory_bytes=None,
        lora_modules=(f"ink={ink}",),
    ) as served:
        yield served


@pytest.fixture
def client(studio: Serving) -> Iterator[openai.OpenAI]:
    with studio.client() as made:
        yield made


def opened(data: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data or "")))


def test_pictures_come_as_files_that_say_how_they_were_made(client: openai.OpenAI, studio: Serving) -> None:
    answer = client.images.generate(
        model="tiny",
        prompt="a red circle",
        n=2,
        extra_body=SMALL | {"negative_prompt": "blue", "size": "32x16"},
    )
    assert answer.size == "32x16" and answer.output_format == "png" and answer.data is not None
    files = [base64.b64decode(one.b64_json or "") for one in answer.data]
    assert [opened(one.b64_json).size for one in answer.data] == [(32, 16), (32, 16)]
    notes = [json.loads(read_note(file)) for file in files]
    assert [note["seed"] for note in notes] == [3, 4] and files[0] != files[1]
    again = client.images.generate(prompt="-", extra_body=notes[1])  # the note is the request
    assert again.data is not None and base64.b64decode(again.data[0].b64_json or "") == files[1]
    studio.everything_is_returned()


@pytest.mark.parametrize(("format", "kind"), [("webp", "WEBP"), ("jpeg", "JPEG"), ("png", "PNG")])
def test_a_picture_comes_in_the_format_that_was_asked_for(
    client: openai.OpenAI, format: str, kind: str
) -> None:
    answer = client.images.generate(
        prompt="a cat",
        output_format=format,
        output_compression=60,
        extra_body=SMALL,  # type: ignore[call-overload]
    )
    assert opened(answer.data[0].b64_json).format == kind


def test_previews_come_before_the_picture(client: openai.OpenAI) -> None:
    events = list(
        client.images.generate(
            prompt="a cat",
            stream=True,
            partial_images=2,
            extra_body=SMALL | {"num_inference_steps": 6},  # type: ignore[call-overload]
        )
    )
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert all(opened(event.b64_json).size == (16, 16) for event in events)


def test_steps_are_told_as_comments_of_the_stream(studio: Serving) -> None:
    body = {"prompt": "a cat", "size": "16x16", "stream": True, **SMALL}
    lines = httpx.post(f"{studio.url}/v1/images/generations", json=body, timeout=60).text.splitlines()
    assert [line for line in lines if line.startswith(":")] == [": step 1 of 2", ": step 2 of 2"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "33x16"}, "size"),
        ({"size": "10000x10000"}, "size"),
        ({"size": "large"}, "size"),
        ({"n": 11}, "n"),
        ({"num_inference_steps": 10_000}, "num_inference_steps"),
        ({"guidance_scale": -2}, "guidance_scale"),
        ({"seed": 1 << 70}, "seed"),
        ({"prompt": ""}, "prompt"),
        ({"response_format": "url"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 2}, "partial_images"),
        ({"partial_images": 9, "stream": True}, "partial_images"),
        ({"cache": "fast"}, "cache"),
        ({"cache": "teacache", "cache_threshold": -1}, "cache_threshold"),
        ({"cache_threshold": 0.1}, "cache_threshold"),
        ({"lora": {"name": "no such"}}, "lora"),
        ({"lora": {"name": "ink", "scale": 1e9}}, "lora"),
        ({"prompt": "x" * 600, "size": "16x16"}, "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_in_openais_shape(
    studio: Serving, fields: dict[str, object], param: str
) -> None:
    answer = httpx.post(
        f"{studio.url}/v1/images/generations", json={"prompt": "a cat", **SMALL, **fields}, timeout=60
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    studio.everything_is_returned()


def test_steps_that_a_feature_cache_spares_are_counted(client: openai.OpenAI, studio: Serving) -> None:
    def spared() -> float:
        name = 'tutti_stage_skipped_total{model_name="tiny",stage="denoiser"}'
        lines = httpx.get(f"{studio.url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    before = spared()
    body = SMALL | {"num_inference_steps": 6, "cache": "teacache", "cache_threshold": 5.0}
    answer = client.images.generate(prompt="a cat", extra_body=body)
    assert answer.data is not None
    note = json.loads(read_note(base64.b64decode(answer.data[0].b64_json or "")))
    assert (note["cache"], note["cache_threshold"]) == ("teacache", 5.0)
    assert spared() == before + 4  # the first step is computed, and the last


def test_a_request_names_its_adapter(client: openai.OpenAI, studio: Serving) -> None:
    def drawn(**more: object) -> bytes:
        answer = client.images.generate(prompt="a cat", extra_body=SMALL | more)
        assert answer.data is not None
        return base64.b64decode(answer.data[0].b64_json or "")

    ink = drawn(lora={"name": "ink", "scale": 0.5})
    assert json.loads(read_note(ink))["lora"] == {"name": "ink", "scale": 0.5}
    pixels = [Image.open(io.BytesIO(file)).tobytes() for file in (ink, drawn(), drawn(lora={"name": "ink"}))]
    assert len(set(pixels)) == 3
    studio.everything_is_returned()


def test_who_leaves_stops_the_drawing(studio: Serving) -> None:
    body = {"prompt": "a cat", "size": "16x16", "stream": True, "num_inference_steps": 1000}
    with httpx.stream("POST", f"{studio.url}/v1/images/generations", json=body, timeout=60) as answer:
        next(answer.iter_bytes())
    until(lambda: studio.gateway.served[0].admission.inside == 0)
    studio.everything_is_returned()


def test_a_model_that_draws_does_not_chat(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"draws pictures|chat template"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="draws pictures"):
        client.completions.create(model="tiny", prompt="hi")
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_model_that_writes_does_not_draw(server: Serving) -> None:
    with (
        server.client() as writer,
        pytest.raises(openai.BadRequestError, match="does not draw: it gives text"),
    ):
        writer.images.generate(model="tiny", prompt="a cat")


def test_a_model_of_the_store_is_loaded_when_somebody_has_it_draw(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    add(store, "painter-turbo", f"FROM {pipeline('z_image')[1]}\n")
    with managing(Catalog(store), memory=4_000_000_000) as served, served.client() as client:
        door = ollama.Client(served.url, timeout=60)
        assert door.show("painter-turbo").capabilities == ["image"] and not door.ps().models
        with pytest.raises(ollama.ResponseError, match="does not support chat"):
            door.chat("painter-turbo", [{"role": "user", "content": "hi"}])
        answer = client.images.generate(model="painter-turbo", prompt="a cat", extra_body={"size": "16x16"})
        assert answer.data is not None and opened(answer.data[0].b64_json).size == (16, 16)
        assert [model.model for model in door.ps().models] == ["painter-turbo:latest"]
        note = json.loads(read_note(base64.b64decode(answer.data[0].b64_json or "")))
        assert (note["num_inference_steps"], note["guidance_scale"]) == (
            9,
            0,
        )  # its name says that it is distilled
        served.everything_is_returned()
