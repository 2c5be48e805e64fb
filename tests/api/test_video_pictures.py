"""`/v1/videos` with pictures: as the official client sends them, kept with their job, refused where they are wrong."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

import tutti
from tests.api.serving import Serving, serving
from tests.api.test_videos import SMALL, die
from tests.models.film_pipelines import film_pipeline
from tests.models.test_film_pictures import picture
from tutti.api.openai.videos.store import JobStore
from tutti.gateway.opening import processor_of
from tutti.media.container import read_note
from tutti.media.video import read_video
from tutti.models.processor.drawer import drawing_request
from tutti.request import Drawing, Media, Request
from tutti.settings import EngineOptions


def filming(folder: Path, family: str = "wan_begun_two") -> Any:
    return serving(
        model=str(film_pipeline(family)[1]), memory=3_000_000_000, kv_cache_memory_bytes=None, videos=folder
    )


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def uri(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a model that films from one picture or two."""
    with filming(tmp_path_factory.mktemp("films")) as served:
        yield served


@pytest.fixture
def client(studio: Serving) -> Iterator[openai.OpenAI]:
    with studio.client() as made:
        yield made


def made_by(client: openai.OpenAI, id: str) -> np.ndarray:
    video = client.videos.poll(id, poll_interval_ms=50)
    assert video.status == "completed", video.error
    return read_video(client.videos.download_content(id).read(), fps=16).frames


def test_a_file_an_object_and_a_url_are_the_same_picture(
    client: openai.OpenAI, studio: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png(picture()))
    with path.open("rb") as file:
        sent = client.videos.create(prompt="it walks away", input_reference=file, extra_body=SMALL)
    assert sent.size == "32x16"
    films = [made_by(client, sent.id)]
    for value in ({"image_url": uri(picture())}, uri(picture())):
        body = {"prompt": "it walks away", "input_reference": value, **SMALL}
        answer = httpx.post(f"{studio.url}/v1/videos", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        films.append(made_by(client, answer.json()["id"]))
    assert all(np.array_equal(one, films[0]) for one in films)
    with tutti.Omni(str(film_pipeline("wan_begun_two")[1]), dtype="float32", memory="3GB", threads=1) as omni:
        asked: dict[str, Any] = {"size": "32x16", "frames": 5, "steps": 2, "guidance": 2.0, "seed": 3}
        video = omni.generate(text="it walks away", images=[str(path)], **asked).videos[0]
        ended = omni.generate(text="it walks away", images=[picture(), picture(seed=1)], **asked).videos[0]
    video.save(tmp_path / "cat.mp4")
    assert np.array_equal(read_video((tmp_path / "cat.mp4").read_bytes(), fps=16).frames, films[0])
    assert np.abs(ended.frames.astype(int) - video.frames).max() > 8
    studio.everything_is_returned()


def test_a_last_picture_is_sent_as_a_file_or_a_url(client: openai.OpenAI, studio: Serving) -> None:
    pictures = {"input_reference": uri(picture()), "last_image": uri(picture(seed=1))}
    told = httpx.post(f"{studio.url}/v1/videos", json={"prompt": "a", **pictures, **SMALL}, timeout=60).json()
    files = {name: ("a.png", png(picture(seed=number))) for number, name in enumerate(pictures)}
    fields = {"prompt": "a", **{name: str(value) for name, value in SMALL.items()}}
    sent = httpx.post(f"{studio.url}/v1/videos", data=fields, files=files, timeout=60).json()
    assert np.array_equal(made_by(client, told["id"]), made_by(client, sent["id"]))


def test_a_job_has_a_feature_cache_and_says_so_where_there_is_no_adapter(client: openai.OpenAI) -> None:
    fields = SMALL | {"cache": "first_block", "cache_threshold": 0.5}
    with pytest.raises(openai.BadRequestError, match="cache must be one of none, first_block, teacache"):
        client.videos.create(prompt="a", input_reference=("a.png", png(picture())), extra_body={"cache": "x"})
    video = client.videos.create(prompt="a", input_reference=("a.png", png(picture())), extra_body=fields)
    assert client.videos.poll(video.id, poll_interval_ms=50).status == "completed"
    note = read_note(client.videos.download_content(video.id).read())
    assert (json.loads(note)["cache"], json.loads(note)["cache_threshold"]) == ("first_block", 0.5)
    fields = SMALL | {"lora": {"name": "ink", "scale": 0.5}}
    video = client.videos.create(prompt="a", input_reference=("a.png", png(picture())), extra_body=fields)
    video = client.videos.poll(video.id, poll_interval_ms=50)
    assert video.error is not None and "there is no adapter 'ink'" in video.error.message


def test_without_a_size_the_film_has_the_pictures_shape(client: openai.OpenAI) -> None:
    fields = {name: value for name, value in SMALL.items() if name != "size"}
    video = client.videos.create(
        prompt="a", input_reference=("a.png", png(picture(90, 150))), extra_body=fields
    )
    width, height = map(int, video.size.split("x"))
    assert (width, height) == (256, 256)  # the most that the tiny model takes, each side
    client.videos.delete(video.id)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, "input_reference", "films from a picture: send what is missing"),
        ({"last_image": "data:,"}, "last_image", "send that, too, as input_reference"),
        ({"input_reference": {"file_id": "file-1"}}, "input_reference", "uploaded before are not kept here"),
        ({"input_reference": 7}, "input_reference", "must be a file, a data URI or a URL"),
        ({"input_reference": "data:image/png;base64,AAAA"}, None, "not a picture"),
        ({"input_reference": "file:///etc/passwd"}, "input_reference", "input_reference"),
    ],
)
def test_pictures_that_make_no_sense_are_refused_in_openais_shape(
    studio: Serving, fields: dict[str, Any], param: str | None, message: str
) -> None:
    answer = httpx.post(f"{studio.url}/v1/videos", json={"prompt": "a cat", **SMALL, **fields}, timeout=60)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and message in error["message"]


def prepared(name: str) -> Request:
    """A request as the door completes it."""
    processor = processor_of(EngineOptions(model=str(film_pipeline("wan_begun_two")[1])))
    drawing = Drawing(width=32, height=16, frames=5, steps=2, guidance=2.0, guidance_2=2.0)
    media = (Media("image", png(picture())),)
    return processor.prepare(
        drawing_request("it walks away", None, drawing, id=name, model="tiny", seed=3, media=media)
    )


def test_a_job_survives_its_server_with_its_picture(tmp_path: Path) -> None:
    dead = JobStore(tmp_path)
    for name in ("video_kept", "video_gone", "video_damaged"):
        dead.add(None, prepared(name))
    assert len(dead.get(None, "video_kept").request) < 2000  # the pixels are beside the table
    dead.pictures("video_gone").unlink()
    data = bytearray(dead.pictures("video_damaged").read_bytes())
    data[len(data) // 2] ^= 255
    dead.pictures("video_damaged").write_bytes(data)
    die(dead)
    with filming(tmp_path) as served, served.client() as client:
        film = made_by(client, "video_kept")
        for name in ("video_gone", "video_damaged"):
            video = client.videos.poll(name, poll_interval_ms=50)
            assert video.status == "failed" and video.error is not None
            assert (
                f"the pictures that the video {name} was to be made from cannot be read"
                in video.error.message
            )
        again = client.videos.create(
            prompt="it walks away", input_reference=("a.png", png(picture())), extra_body=SMALL
        )
        assert np.array_equal(made_by(client, again.id), film)
    assert not list(tmp_path.glob("*.pictures"))
