"""A model that sees answers about pictures and videos sent as OpenAI's clients send them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, serving
from tests.media import files
from tests.media.server import Site, site
from tests.models import checkpoints
from tutti.media.fetch import FetchLimits

RED = files.saved(Image.new("RGB", (32, 24), "red"), "PNG")
BLUE = files.saved(Image.new("RGB", (24, 40), "blue"), "PNG")


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as running:
        running.files["/red.png"] = RED
        yield running


@pytest.fixture(scope="module")
def sighted(tmp_path_factory: pytest.TempPathFactory, web: Site) -> Iterator[Serving]:
    model = checkpoints.make("qwen2_5_vl", tmp_path_factory.mktemp("sighted") / "model")
    with serving(model=str(model), fetching=FetchLimits(allow_private=True)) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(sighted: Serving) -> Iterator[openai.OpenAI]:
    with sighted.client() as made:
        yield made


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def ask(client: openai.OpenAI, *parts: Any, **options: Any) -> Any:
    content = [{"type": "text", "text": "What is it?"}, *parts]
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": content}],
        temperature=0,
        max_tokens=8,
        logprobs=True,
        extra_body={"ignore_eos": True},
        **options,
    )


def seen(answer: Any) -> list[tuple[str, float]]:
    """What was answered, and how surely."""
    return [(token.token, round(token.logprob, 3)) for token in answer.choices[0].logprobs.content]


def test_a_picture_is_seen_however_it_comes(client: openai.OpenAI, web: Site) -> None:
    sent, fetched = ask(client, image(uri(RED))), ask(client, image(f"{web.url}/red.png"))
    assert seen(sent) == seen(fetched)
    assert sent.usage.prompt_tokens == fetched.usage.prompt_tokens > ask(client).usage.prompt_tokens
    assert seen(sent) != seen(ask(client, image(uri(BLUE)))) != seen(ask(client))


def test_the_order_of_pictures_matters(client: openai.OpenAI) -> None:
    first, second = image(uri(RED)), image(uri(BLUE))
    assert seen(ask(client, first, second)) != seen(ask(client, second, first))


def test_a_streamed_answer_is_the_same(client: openai.OpenAI) -> None:
    chunks = ask(client, image(uri(RED)), stream=True)
    tokens = [
        token
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert [(token.token, round(token.logprob, 3)) for token in tokens] == seen(ask(client, image(uri(RED))))


def test_a_video_is_seen(client: openai.OpenAI) -> None:
    part = {"type": "video_url", "video_url": {"url": uri(files.video(30, 10), "video/mp4")}}
    assert ask(client, part).usage.prompt_tokens > ask(client).usage.prompt_tokens


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        (image(uri(RED[:60])), "invalid_media", "broken or cut short"),
        (image(uri(b"%PDF-1.7")), "invalid_media", "a PDF document, not a picture"),
        (image("http://127.0.0.1:1/a.png"), "media_unavailable", r"messages\[0\].content\[1\]: http://127"),
        (image("file:///etc/passwd"), "media_unavailable", "not a file that this server may read"),
        (
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            "invalid_request",
            "takes text, image",
        ),
    ],
)
def test_a_bad_part_is_the_callers_error(client: openai.OpenAI, part: Any, code: str, words: str) -> None:
    for options in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            ask(client, part, **options)
        assert caught.value.code == code
