"""The media in a conversation are brought here in order; a failure names its part, and text passes untouched."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.media.server import BODY, Site, site
from tutti.api.openai.attachments import gather
from tutti.errors import FetchError, InvalidRequest
from tutti.media.fetch import FetchLimits
from tutti.request import Media

ALL = frozenset({"image", "audio", "video"})
LIMITS = FetchLimits(allow_private=True, seconds=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site() as running:
        yield running


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def asked(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Look."}, {"role": "user", "content": list(parts)}]


async def test_text_passes_untouched() -> None:
    messages = [
        *asked({"type": "text", "text": "hello"}),
        {"role": "assistant", "content": None},
        {"role": "odd"},
    ]
    found, media = await gather(messages, ALL, LIMITS)
    assert found == messages and all(a is b for a, b in zip(found, messages, strict=True))
    assert media == []


async def test_every_spelling_of_a_part(server: Site) -> None:
    speech = base64.b64encode(b"speech").decode()
    parts = [
        {"type": "image_url", "image_url": {"url": data_uri(b"1"), "detail": "high"}},
        {"type": "text", "text": "and"},
        {"type": "image_url", "image_url": f"{server.url}/ok"},
        {"type": "input_audio", "input_audio": {"data": speech, "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": data_uri(b"4")}},
        {"type": "video_url", "video_url": {"url": data_uri(b"5")}},
        {"type": "input_image", "image_url": data_uri(b"6")},
        {"type": "image", "image": data_uri(b"7")},
        {"type": "video", "url": data_uri(b"8")},
        {"type": "input_audio", "input_audio": {"data": data_uri(b"9"), "format": "mp3"}},
    ]
    messages = asked(*parts)
    found, media = await gather(messages, ALL, LIMITS)
    assert media == [
        Media("image", b"1"),
        Media("image", BODY),
        Media("audio", b"speech"),
        Media("audio", b"4"),
        Media("video", b"5"),
        Media("image", b"6"),
        Media("image", b"7"),
        Media("video", b"8"),
        Media("audio", b"9"),
    ]
    kinds = [part["type"] for part in found[1]["content"]]
    assert kinds == ["image", "text", "image", "audio", "audio", "video", "image", "image", "video", "audio"]
    assert messages == asked(*parts)  # the caller's own are left as they were


async def test_media_keep_their_order_over_messages() -> None:
    messages = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_uri(bytes([k]))}}] * 2}
        for k in range(20)
    ]
    _, media = await gather(messages, ALL, LIMITS)
    assert [part.data[0] for part in media] == [k for k in range(20) for _ in range(2)]


async def test_a_modality_the_model_does_not_take_is_refused_before_anything_is_fetched(server: Site) -> None:
    before = len(server.seen)
    image = {"type": "image_url", "image_url": {"url": f"{server.url}/ok"}}
    video = {"type": "video_url", "video_url": {"url": f"{server.url}/ok"}}
    with pytest.raises(
        InvalidRequest, match=r"messages\[1\]\.content\[1\].*takes text, audio, image only"
    ) as caught:
        await gather(asked(image, video), frozenset({"image", "audio"}), LIMITS)
    assert caught.value.param == "messages[1].content[1]"
    assert len(server.seen) == before


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"url": ""}},
        {"type": "image_url", "image_url": {"url": 5}},
        {"type": "input_audio", "input_audio": {"format": "wav"}},
        {"type": "image"},
    ],
)
async def test_a_part_without_a_source_shows_how_it_should_look(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.content\[0\] must have .*: \{"):
        await gather(asked(part), ALL, LIMITS)


async def test_a_failed_fetch_names_its_part_and_ends_the_others(server: Site) -> None:
    start = time.monotonic()
    slow = {"type": "image_url", "image_url": {"url": f"{server.url}/slow"}}
    bad = {"type": "image_url", "image_url": {"url": f"{server.url}/missing"}}
    with pytest.raises(FetchError, match=r"messages\[1\]\.content\[1\]: .*status 404") as caught:
        await gather(asked(slow, bad), ALL, LIMITS)
    assert (caught.value.param, caught.value.status) == ("messages[1].content[1]", 400)
    assert time.monotonic() - start < 5


async def test_the_media_of_a_request_have_a_limit_together() -> None:
    parts = [{"type": "image_url", "image_url": {"url": data_uri(bytes(400))}}] * 3
    with pytest.raises(FetchError, match="more than 1 kB together"):
        await gather(asked(*parts), ALL, FetchLimits(most_bytes=1000))
