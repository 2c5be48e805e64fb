"""Media that are broken, empty or far too long, over HTTP: a clear 400 for them, and nothing for the others."""

from __future__ import annotations

import base64
import resource
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from tests.api.serving import Serving, serving, until
from tests.media import files
from tests.models import checkpoints
from tutti.media.fetch import FetchLimits

MINUTES = 60
TALKER = {"talker": {"temperature": 0.0, "max_tokens": 240, "allowed_token_ids": list(range(64))}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that requests may name."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    """A model that sees, hears and speaks."""
    limits = FetchLimits(allowed_local_paths=(folder,))
    with serving(model=str(checkpoints.cached("qwen2_5_omni")), fetching=limits) as served:
        yield served
        served.everything_is_returned()


def uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def ask(server: Serving, *parts: dict[str, Any], **options: Any) -> httpx.Response:
    content = [{"type": "text", "text": "What is it?"}, *parts]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 6}
    return httpx.post(
        f"{server.url}/v1/chat/completions", json=body | {"ignore_eos": True} | options, timeout=120
    )


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def refused(response: httpx.Response, *words: str) -> None:
    error = response.json()["error"]
    assert response.status_code == 400, error
    for word in words:
        assert word in error["message"]


def test_a_corrupt_picture_among_good_ones_fails_alone(server: Serving) -> None:
    good = [files.saved(Image.new("RGB", (28, 28), colour), "PNG") for colour in ("red", "green", "blue")]
    broken = files.saved(Image.fromarray(files.picture(40, 40)), "PNG")[:700]

    def look(data: bytes) -> httpx.Response:
        return ask(server, {"type": "image_url", "image_url": {"url": uri(data, "image/png")}})

    alone = [said(look(data)) for data in good]
    with ThreadPoolExecutor(4) as pool:
        first, second, bad, third = pool.map(look, [good[0], good[1], broken, good[2]])
    refused(bad, "broken or cut short")
    assert [said(one) for one in (first, second, third)] == alone


def test_an_hour_of_sound_is_refused_within_bounded_memory(server: Serving, folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, rate, words in (("small", 8_000, "seconds"), ("large", 16_000, "100 MB")):
        path, size = folder / f"{name}.wav", MINUTES * 60 * rate * rate // 8_000
        header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, rate,
                             rate * rate // 8_000, rate // 8_000, rate // 1_000, b"data", size)  # fmt: skip
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + size)  # a hole: it takes no room
        refused(ask(server, {"type": "audio_url", "audio_url": {"url": path.as_uri()}}), words)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < 400_000_000  # the file, and half an hour of samples; the whole hour would be twice that


def test_a_video_without_frames_is_refused(server: Serving) -> None:
    sound = files.encoded(files.tone(), 16_000, "mp4", "aac")
    none = BytesIO()
    with av.open(none, "w", format="mp4") as out:  # a track for pictures, and none in it
        picture = out.add_stream("libx264", rate=10)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        track = out.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(files.tone()[None], "flt", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    for data in (sound, none.getvalue()):
        refused(
            ask(server, {"type": "video_url", "video_url": {"url": uri(data, "video/mp4")}}), "no pictures"
        )


def test_a_client_that_leaves_amid_the_sound_leaves_nothing_behind(server: Serving) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hello"}],
        "modalities": ["text", "audio"],
        "audio": {"voice": "ada", "format": "pcm16"},
        "stage_sampling": TALKER,
        "max_tokens": 6,
        "stream": True,
    }
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as response:
        sound = next(line for line in response.iter_lines() if '"data":"' in line.replace(" ", ""))
        assert len(sound) > 1000
    server.everything_is_returned()
    until(lambda: all(stage.waiting == 0 for stage in server.stats().stages), 60)
    assert server.stats().kv_usage == 0
