"""`/v1/videos`, driven by the official client: jobs, their files, and what becomes of them when a server dies."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.api.serving import Serving, serving, until
from tests.cli.test_serve import Server
from tests.models.film_pipelines import film_pipeline
from tutti.api.openai.videos.store import JobStore
from tutti.gateway.opening import processor_of
from tutti.media.container import read_note
from tutti.media.video import read_video
from tutti.models.processor.drawer import drawing_request
from tutti.request import Drawing, Request
from tutti.settings import EngineOptions

SMALL = {"size": "32x16", "num_frames": 5, "num_inference_steps": 2, "guidance_scale": 2.0, "seed": 3}
LONG = SMALL | {"num_inference_steps": 1000}


def filming(folder: Path, **options: Any) -> Any:
    model = str(film_pipeline("wan")[1])
    return serving(model=model, memory=3_000_000_000, kv_cache_memory_bytes=None, videos=folder, **options)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a tiny random model that films."""
    with filming(tmp_path_factory.mktemp("films") / "videos") as served:
        yield served


@pytest.fixture
def client(studio: Serving) -> Iterator[openai.OpenAI]:
    with studio.client() as made:
        yield made


def test_a_video_is_asked_for_waited_for_and_fetched(client: openai.OpenAI, studio: Serving) -> None:
    asked = client.videos.create(
        model="tiny", prompt="a cat", extra_body=SMALL | {"fps": 8, "negative_prompt": "blue"}
    )
    assert (asked.object, asked.model, asked.status) == ("video", "tiny", "queued")
    assert (asked.size, asked.prompt, asked.completed_at) == ("32x16", "a cat", None)
    video = client.videos.poll(asked.id, poll_interval_ms=50)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert video.completed_at is not None and video.seconds == "0.625"
    film = client.videos.download_content(video.id).read()
    note = json.loads(read_note(film))
    assert (note["prompt"], note["seed"], note["num_frames"], note["fps"]) == ("a cat", 3, 5, 8.0)
    assert note["negative_prompt"] == "blue"
    assert read_video(film, fps=8).frames.shape == (5, 16, 32, 3)
    picture = client.videos.download_content(video.id, variant="thumbnail").read()
    assert Image.open(io.BytesIO(picture)).size == (32, 16)
    studio.everything_is_returned()


def test_seconds_are_as_many_frames_as_are_next_to_them(client: openai.OpenAI) -> None:
    fields = {name: value for name, value in SMALL.items() if name != "num_frames"}
    video = client.videos.create_and_poll(
        prompt="a cat", seconds="1", extra_body=fields | {"fps": 8}, poll_interval_ms=50
    )
    assert video.status == "completed" and video.model_extra is not None
    assert video.model_extra["num_frames"] == 9 and video.seconds == "1.12"


def test_the_same_seed_is_the_same_film_by_json_too(client: openai.OpenAI, studio: Serving) -> None:
    films = []
    for _ in range(2):
        made = httpx.post(f"{studio.url}/v1/videos", json={"prompt": "a dog", **SMALL}, timeout=60).json()
        assert client.videos.poll(made["id"], poll_interval_ms=50).status == "completed"
        films.append(client.videos.download_content(made["id"]).read())
    assert read_video(films[0], fps=16).frames.tobytes() == read_video(films[1], fps=16).frames.tobytes()


def test_jobs_are_listed_in_pages(client: openai.OpenAI) -> None:
    made = [client.videos.create(prompt=f"{k}", extra_body=SMALL).id for k in range(3)]
    assert [video.id for video in client.videos.list(limit=2)][:3] == made[::-1]  # page after page
    oldest = client.videos.list(order="asc", limit=100)
    assert [video.id for video in oldest][-3:] == made
    assert [video.id for video in client.videos.list(after=made[1], limit=1).data] == [made[0]]
    for id in made:
        client.videos.poll(id, poll_interval_ms=50)
        assert client.videos.delete(id).deleted
    assert not {video.id for video in client.videos.list(limit=100)} & set(made)


def test_who_deletes_a_running_job_stops_it(client: openai.OpenAI, studio: Serving) -> None:
    video = client.videos.create(prompt="a cat", extra_body=LONG)
    until(lambda: client.videos.retrieve(video.id).status == "in_progress")
    until(lambda: "sketch" in _thumbnail(client, video.id))
    with pytest.raises(openai.BadRequestError, match="not done: it is in_progress"):
        client.videos.download_content(video.id)
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.object) == (video.id, "video.deleted")
    with pytest.raises(openai.NotFoundError, match="There is no video"):
        client.videos.retrieve(video.id)
    studio.everything_is_returned()


def _thumbnail(client: openai.OpenAI, id: str) -> str:
    """What the thumbnail of a job is now."""
    try:
        file = client.videos.download_content(id, variant="thumbnail").read()
    except openai.BadRequestError:
        return "nothing yet"
    return "sketch" if Image.open(io.BytesIO(file)).format == "PNG" else "frame"


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"size": "33x16"}, "size", "multiples of 8 pixels; take 32 for 33"),
        ({"size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"size": "10000x16"}, "size", "at most"),
        ({"num_frames": 6}, "num_frames", "take 5 for 6"),
        ({"num_frames": 100_001}, "num_frames", "from 1 to 125"),
        ({"num_frames": "many"}, "num_frames", "expected `int"),
        ({"num_frames": 5, "seconds": "4"}, "seconds", "give one"),
        ({"num_frames": None, "seconds": "soon"}, "seconds", "got 'soon'"),
        ({"num_frames": None, "seconds": 1e9}, "seconds", "from 0 to 3,600"),
        ({"num_frames": None, "seconds": 100}, "num_frames", "from 1 to 125, got 1601"),
        ({"fps": 0}, "fps", "from 1 to 120"),
        ({"num_inference_steps": 10_000}, "num_inference_steps", "from 1 to 1,000"),
        ({"guidance_scale": -2}, "guidance_scale", "from 0 to 100"),
        ({"guidance_scale_2": 2}, "guidance_scale_2", "give guidance_scale"),
        ({"seed": 1 << 70}, "seed", ""),
        ({"prompt": ""}, "prompt", "the prompt is empty"),
        ({"prompt": 7}, "prompt", "expected `str`"),
        ({"input_reference": {"image_url": "data:,"}}, "input_reference", "takes no picture"),
    ],
)
def test_what_makes_no_sense_is_refused_in_openais_shape(
    studio: Serving, fields: dict[str, Any], param: str, message: str
) -> None:
    answer = httpx.post(f"{studio.url}/v1/videos", json={"prompt": "a cat", **SMALL, **fields}, timeout=60)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and message.replace("`", "") in error["message"]


def test_forms_are_refused_in_the_same_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="num_frames: expected int"):
        client.videos.create(prompt="a cat", extra_body=SMALL | {"num_frames": "many"})
    with pytest.raises(openai.BadRequestError, match="takes no picture: leave it out"):
        client.videos.create(prompt="a cat", input_reference=("a.png", b"picture"), extra_body=SMALL)
    with pytest.raises(openai.BadRequestError, match="field 'prompt' is missing"):
        client.videos.create(prompt=openai.omit, extra_body=SMALL)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="limit must be from 1 to 100"):
        client.videos.list(limit=0)
    with pytest.raises(openai.BadRequestError, match="there is no video 'video_0'"):
        client.videos.list(after="video_0")
    with pytest.raises(openai.BadRequestError, match="variant must be video or thumbnail"):
        client.videos.download_content("video_0", variant="spritesheet")


def test_a_prompt_that_is_too_long_fails_its_job_and_says_why(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(prompt="x" * 600, extra_body=SMALL, poll_interval_ms=50)
    assert video.status == "failed" and video.error is not None
    assert video.error.code == "invalid_request" and "text encoder takes 512" in video.error.message
    with pytest.raises(openai.BadRequestError, match="The video failed: the prompt has 600 tokens"):
        client.videos.download_content(video.id)


def test_a_model_that_films_neither_draws_nor_chats(client: openai.OpenAI, server: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="does not draw: it gives video"):
        client.images.generate(prompt="a cat")
    with pytest.raises(openai.BadRequestError, match=r"this model films|chat template"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
    with (
        server.client() as writer,
        pytest.raises(openai.BadRequestError, match="does not film: it gives text"),
    ):
        writer.videos.create(prompt="a cat")


def test_a_caller_sees_its_own_jobs_only(tmp_path: Path) -> None:
    with (
        filming(tmp_path, keys=("one", "two")) as served,
        served.client(api_key="one") as one,
        served.client(api_key="two") as two,
    ):
        video = one.videos.create_and_poll(prompt="a cat", extra_body=SMALL, poll_interval_ms=50)
        assert [found.id for found in one.videos.list()] == [video.id]
        assert not list(two.videos.list())
        for ask in (two.videos.retrieve, two.videos.delete, two.videos.download_content):
            with pytest.raises(openai.NotFoundError):
                ask(video.id)


def prepared(name: str, model: str = "tiny") -> Request:
    """A request as the door completes it."""
    processor = processor_of(EngineOptions(model=str(film_pipeline("wan")[1])))
    drawing = Drawing(width=32, height=16, frames=5, steps=2, guidance=1.0)
    return processor.prepare(drawing_request("a cat", None, drawing, id=name, model=model, seed=3))


def die(store: JobStore) -> None:
    """What is left of a server that was killed: its rows, and a lock that nobody holds."""
    store._table.close()
    os.close(store._lock)


def test_jobs_of_a_dead_server_are_done_by_the_next(tmp_path: Path) -> None:
    dead = JobStore(tmp_path)
    for name in ("video_begun", "video_queued", "video_twice"):
        dead.add(None, prepared(name))
    dead.add(None, prepared("video_elsewhere", model="another"))
    dead.progress("video_begun", 50)
    dead.part("video_begun").write_bytes(b"half a film")
    dead.progress("video_twice", 50)
    dead._update("video_twice", "tries = 1")  # a server died of it before
    die(dead)
    living = JobStore(tmp_path)
    living.add(None, prepared("video_living"))
    with filming(tmp_path) as served, served.client() as client:
        for name in ("video_begun", "video_queued"):
            assert client.videos.poll(name, poll_interval_ms=50).status == "completed"
            assert len(client.videos.download_content(name).read()) > 500
        twice = client.videos.retrieve("video_twice")
        assert twice.status == "failed" and twice.error is not None
        assert twice.error.message == "The server died 2 times while it made this video."
        elsewhere = client.videos.retrieve("video_elsewhere")
        assert elsewhere.status == "failed" and elsewhere.error is not None
        assert "this one has no model another" in elsewhere.error.message
        assert client.videos.retrieve("video_living").status == "queued"  # another server's, which lives
    assert not dead.part("video_begun").exists()
    living.close()


def test_a_server_that_ends_leaves_its_jobs_to_the_next(tmp_path: Path) -> None:
    with filming(tmp_path) as served, served.client() as client:
        video = client.videos.create(prompt="a cat", extra_body=LONG)
        until(lambda: client.videos.retrieve(video.id).status == "in_progress")
    store = JobStore(tmp_path)
    (left,) = store.orphans()
    assert (left.id, left.status, left.tries) == (video.id, "queued", 0)
    assert list(tmp_path.glob("*.mp4")) == []
    store.close()


def test_a_server_that_is_killed_loses_no_job(tmp_path: Path) -> None:
    flags = ("--served-model-name", "tiny", "--dtype", "float32", "--memory", "3GB", "--threads", "1")
    folder = str(film_pipeline("wan")[1])
    first = Server(folder, *flags, TUTTI_VIDEOS=str(tmp_path))
    client = openai.OpenAI(base_url=first.url, api_key="none", max_retries=0)
    done = client.videos.create_and_poll(prompt="a cat", extra_body=SMALL, poll_interval_ms=50)
    film = client.videos.download_content(done.id).read()
    video = client.videos.create(prompt="a cat", extra_body=LONG)
    until(lambda: client.videos.retrieve(video.id).progress > 0, limit=60)
    first.end(signal.SIGKILL)
    second = Server(folder, *flags, TUTTI_VIDEOS=str(tmp_path))
    try:
        client = openai.OpenAI(base_url=second.url, api_key="none", max_retries=0)
        assert client.videos.download_content(done.id).read() == film
        assert [one.id for one in client.videos.list()] == [video.id, done.id]
        until(lambda: client.videos.retrieve(video.id).status == "in_progress", limit=60)
        assert client.videos.delete(video.id).deleted
        assert [one.id for one in client.videos.list()] == [done.id]
    finally:
        code, errors = second.end()
    assert code == 0, errors


def test_a_job_that_another_server_deletes_is_stopped(tmp_path: Path) -> None:
    with filming(tmp_path) as served, served.client() as client:
        video = client.videos.create(prompt="a cat", extra_body=LONG)
        until(lambda: client.videos.retrieve(video.id).status == "in_progress")
        other = JobStore(tmp_path)
        other.delete(video.id)
        served.everything_is_returned()
        other.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with filming(blocked) as served, served.client() as client:
        with pytest.raises(openai.InternalServerError, match="TUTTI_VIDEOS names another folder"):
            client.videos.create(prompt="a cat", extra_body=SMALL)
        assert client.models.list().data


def test_a_job_that_cannot_be_read_any_more_hides_no_other(tmp_path: Path) -> None:
    dead = JobStore(tmp_path)
    for name in ("video_old", "video_new"):
        dead.add(None, prepared(name))
    dead._update("video_old", "request = ?", '{"written": "otherwise"}')
    die(dead)
    with filming(tmp_path) as served, served.client() as client:
        assert client.videos.poll("video_new", poll_interval_ms=50).status == "completed"
        assert [video.id for video in client.videos.list()] == ["video_new", "video_old"]
        old = client.videos.retrieve("video_old")
        assert old.error is not None and "another version of Tutti" in old.error.message
        assert client.videos.delete("video_old").deleted
