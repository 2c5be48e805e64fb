"""A model that writes, speaks and draws, through OpenAI's client: pictures in chat, and pictures of prompts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, serving, until
from tests.models import unified_checkpoints as unified
from tutti.media.image import read_note

TALKER = {"talker": {"temperature": 0.0, "max_tokens": 12, "allowed_token_ids": list(range(64))}}
ASKED: list[Any] = [{"role": "user", "content": "draw a dot"}]


@pytest.fixture(scope="module")
def studio() -> Iterator[Serving]:
    with serving(model=str(unified.drawing())) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(studio: Serving) -> Iterator[openai.OpenAI]:
    with studio.client() as made:
        yield made


def ask(client: openai.OpenAI, *modalities: str, body: dict[str, Any] | None = None, **options: Any) -> Any:
    more = {"modalities": list(modalities)} if modalities else {}
    return client.chat.completions.create(
        **{"model": "tiny", "messages": ASKED, "temperature": 0, "seed": 5, **options},
        extra_body={"stage_sampling": TALKER, **more, **(body or {})},
    )


def file_of(image: Any) -> bytes:
    assert image["type"] == "image_url"
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(data)


def size_of(file: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(file)).size


def steps(studio: Serving, stage: str) -> int:
    return next(one.steps for one in studio.stats().stages if one.name == stage)


def test_an_answer_has_its_picture_which_says_how_it_was_made(client: openai.OpenAI) -> None:
    answer = ask(client, "text", "image")
    message = answer.choices[0].message
    assert message.content == unified.SAYS and answer.choices[0].finish_reason == "stop"
    (image,) = message.images
    assert size_of(file_of(image)) == (unified.SIZE, unified.SIZE)
    note = json.loads(read_note(file_of(image)))
    assert note["prompt"] == "draw a dot" and note["seed"] == 5 and note["model"] == "tiny"
    assert answer.usage.completion_tokens == len(unified.SAYS) + 2


def test_a_stream_gives_the_picture_before_its_end(client: openai.OpenAI) -> None:
    whole = ask(client, "text", "image").choices[0].message
    deltas, reasons = [], []
    for chunk in ask(client, "text", "image", stream=True):
        deltas.append(chunk.choices[0].delta)
        reasons.append(chunk.choices[0].finish_reason)
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    shown = [number for number, delta in enumerate(deltas) if getattr(delta, "images", None)]
    assert len(shown) == 1 and shown[0] < reasons.index("stop")
    assert file_of(deltas[shown[0]].images[0]) == file_of(whole.images[0])


def test_steps_are_told_as_comments_of_the_stream(studio: Serving) -> None:
    body = {"messages": ASKED, "stream": True, "image": {"num_inference_steps": 2}}
    lines = httpx.post(f"{studio.url}/v1/chat/completions", json=body, timeout=60).text.splitlines()
    assert [line for line in lines if line.startswith(":")] == [": step 1 of 2", ": step 2 of 2"]


def test_who_does_not_say_gets_a_picture_too_and_who_wants_text_has_nothing_drawn(
    studio: Serving, client: openai.OpenAI
) -> None:
    assert len(ask(client).choices[0].message.images) == 1
    before = steps(studio, "denoiser")
    message = ask(client, "text").choices[0].message
    assert message.content == unified.SAYS and getattr(message, "images", None) is None
    assert steps(studio, "denoiser") == before


def test_words_sound_and_picture_come_in_one_answer(client: openai.OpenAI) -> None:
    spoken: dict[str, Any] = {"audio": {"voice": "ada", "format": "pcm16"}}
    message = ask(client, "text", "audio", "image", **spoken).choices[0].message
    assert message.audio.transcript == unified.SAYS and base64.b64decode(message.audio.data)
    assert file_of(message.images[0]) == file_of(ask(client).choices[0].message.images[0])


def test_how_it_is_drawn_can_be_said(client: openai.OpenAI) -> None:
    manner = {"size": "16x12", "num_inference_steps": 2, "guidance_scale": 1.5}
    message = ask(client, "image", body={"image": manner}).choices[0].message
    file = file_of(message.images[0])
    assert size_of(file) == (16, 12) and message.content == unified.SAYS
    note = json.loads(read_note(file))
    assert (note["num_inference_steps"], note["guidance_scale"], note["size"]) == (2, 1.5, "16x12")


def test_each_choice_has_its_own_picture(client: openai.OpenAI) -> None:
    files = [file_of(choice.message.images[0]) for choice in ask(client, n=2).choices]
    assert [json.loads(read_note(file))["seed"] for file in files] == [5, 6] and files[0] != files[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"image": {"size": "48x48"}}, "at most 24 pixels a side"),
        ({"image": {"size": "large"}}, "write WIDTHxHEIGHT"),
        ({"image": {"colour": "red"}}, "colour"),
        ({"modalities": ["text", "smell"]}, "modalities"),
    ],
)
def test_what_makes_no_sense_is_refused_in_openais_shape(
    client: openai.OpenAI, body: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        ask(client, body=body)


def test_a_model_that_does_not_draw_is_not_asked_for_pictures(server: Serving) -> None:
    with server.client() as writer:
        for modality in ("image", "audio"):
            with pytest.raises(openai.BadRequestError, match=f"gives text, not {modality}"):
                ask(writer, "text", modality)


def test_a_prompt_is_put_in_words_and_drawn(client: openai.OpenAI) -> None:
    body = {"seed": 5}
    answer = client.images.generate(model="tiny", prompt="a dot", n=2, extra_body=body)
    assert answer.data is not None and len(answer.data) == 2
    files = [base64.b64decode(one.b64_json or "") for one in answer.data]
    assert [json.loads(read_note(file))["seed"] for file in files] == [5, 6]
    (chatted,) = ask(client).choices[0].message.images
    ours, theirs = (Image.open(io.BytesIO(file)).tobytes() for file in (files[0], file_of(chatted)))
    assert ours == theirs  # the same words in a conversation


def test_previews_and_formats_are_those_of_other_models(client: openai.OpenAI) -> None:
    more = {"output_format": "webp", "seed": 1}
    events = list(
        client.images.generate(model="tiny", prompt="a dot", stream=True, partial_images=2, extra_body=more)
    )
    assert [event.type.split(".")[1] for event in events] == ["partial_image", "partial_image", "completed"]
    assert Image.open(io.BytesIO(base64.b64decode(events[-1].b64_json))).format == "WEBP"


def test_what_was_said_instead_of_a_picture_is_told() -> None:
    with serving(model=str(unified.refusing())) as served, served.client() as client:
        with pytest.raises(openai.BadRequestError, match=f"answered: '{unified.SAYS}'") as caught:
            client.images.generate(model="tiny", prompt="a dot")
        assert caught.value.code == "no_picture"
        message = ask(client).choices[0].message
        assert message.content == unified.SAYS and getattr(message, "images", None) is None
        served.everything_is_returned()


def test_who_leaves_stops_the_drawing(studio: Serving) -> None:
    body = {"messages": ASKED, "stream": True, "image": {"num_inference_steps": 1000}}
    with httpx.stream("POST", f"{studio.url}/v1/chat/completions", json=body, timeout=60) as answer:
        next(line for line in answer.iter_lines() if line.startswith(": step"))
    until(lambda: studio.gateway.served[0].admission.inside == 0)
    studio.everything_is_returned()


def test_ollamas_door_says_that_it_draws_and_gives_pictures_to_who_asks_for_them(studio: Serving) -> None:
    door = ollama.Client(studio.url, timeout=60)
    assert {"completion", "image", "vision", "audio"} <= set(door.show("tiny").capabilities or ())
    before = steps(studio, "denoiser")
    answer = door.chat("tiny", ASKED)
    assert answer.message.content == unified.SAYS and not answer.message.images
    assert steps(studio, "denoiser") == before
    body = {"model": "tiny", "messages": ASKED, "modalities": ["text", "image"], "options": {"seed": 5}}
    lines = [
        json.loads(line)
        for line in httpx.post(f"{studio.url}/api/chat", json=body, timeout=60).text.splitlines()
    ]
    (images,) = [line["message"]["images"] for line in lines if line["message"].get("images")]
    assert size_of(base64.b64decode(images[0])) == (unified.SIZE, unified.SIZE)
    assert {"completed": 1, "total": unified.STEPS}.items() <= lines[-1 - unified.STEPS - 1].items()
