"""Films that begin with a picture, or end with one, too: equal to diffusers' pipelines, in the batches of others."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.film_pipelines import BEGUN, film_pipeline
from tests.models.film_studio import Studio, studio
from tutti.errors import InvalidMedia, InvalidRequest
from tutti.events import Failed, ImageDone
from tutti.models.processor.drawer import drawing_request
from tutti.request import Drawing, Media

TAKEN = {"wan_begun": 1, "wan_begun_both": 2, "wan_begun_two": 1, "wan_small": 1}  # pictures


def picture(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def shown(*images: Image.Image) -> tuple[Media, ...]:
    files = []
    for image in images:
        out = io.BytesIO()
        image.save(out, "PNG")
        files.append(Media("image", out.getvalue()))
    return tuple(files)


def reference(family: str, *images: Image.Image, **more: Any) -> np.ndarray:
    made = film_pipeline(family)[0]
    if family == "wan_small":  # published as the other pipeline, of the same components
        parts = made.components
        made = diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=True)
        made.set_progress_bar_config(disable=True)
    fields = {
        "width": 32,
        "height": 16,
        "num_frames": 5,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        **more,
    }
    if len(images) > 1:
        fields["last_image"] = images[1]
    frames = made(
        image=images[0],
        prompt="a cat walks",
        negative_prompt="blue",
        generator=torch.Generator().manual_seed(5),
        output_type="pil",
        **fields,
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in frames]).astype(int)


GUIDED: dict[str, Any] = {"guidance": 3.0, "negative": "blue"}


@pytest.mark.parametrize("family", TAKEN)
def test_a_film_that_begins_with_a_picture_is_the_pipelines(family: str) -> None:
    images = [picture(seed=number) for number in range(TAKEN[family])]
    for guided in (True, False):
        scale = 3.0 if guided else 1.0
        ours = studio(family).film(guidance=scale, negative="blue", media=shown(*images))
        theirs = reference(family, *images, guidance_scale=scale)
        assert theirs.std() > 5 and theirs.shape == (5, 16, 32, 3)
        assert np.abs(ours - theirs).max() <= 1
    other = studio(family).film(guidance=1.0, media=shown(*(picture(seed=9) for _ in images)))
    assert np.abs(ours - other).max() > 8


def test_a_film_that_ends_with_a_picture_too_is_the_pipelines() -> None:
    images = picture(), picture(seed=1)
    ours = studio("wan_begun_two").film(**GUIDED, media=shown(*images))
    assert np.abs(ours - reference("wan_begun_two", *images)).max() <= 1
    assert np.abs(ours - studio("wan_begun_two").film(**GUIDED, media=shown(images[0]))).max() > 8


@pytest.mark.parametrize("size", [(31, 17), (16, 90), (200, 30), (8, 8)])
def test_pictures_of_any_shape_are_brought_to_the_films_size_as_the_pipeline_does(
    size: tuple[int, int],
) -> None:
    ours = studio("wan_begun").film(**GUIDED, media=shown(picture(*size)))
    assert np.abs(ours - reference("wan_begun", picture(*size))).max() <= 1


def test_films_with_a_picture_and_without_share_batches() -> None:
    made = studio("wan_small")
    alone, told = made.film(**GUIDED, media=shown(picture())), made.film(**GUIDED)
    assert np.abs(alone - told).max() > 8
    made.submit("begun", **GUIDED, media=shown(picture()))
    made.submit("told", **GUIDED)
    before = made.engine.loop.stats.steps["denoiser"].count
    ends = made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 3
    assert np.abs(ends["begun"] - alone).max() <= 1
    assert np.abs(ends["told"] - told).max() <= 1


def test_a_picture_is_encoded_once() -> None:
    made = studio("wan_begun")
    (encoder,) = (one for one in made.engine.encoders if one.name == "vae_encoder")
    first = made.film(media=shown(picture(seed=3)))
    items = encoder.items
    assert np.abs(made.film(media=shown(picture(seed=3)), seed=6) - first).max() > 8
    assert encoder.items == items
    made.film(media=shown(picture(seed=3)), frames=9)  # another film for the VAE
    assert encoder.items == items + 1


def test_what_is_seen_on_the_way_begins_with_the_picture() -> None:
    made = studio("wan_small")
    media = shown(picture())
    made.submit("one", media=media, previews=1, decoded=True, steps=4)
    while made.engine.loop.turn():
        pass
    (early,) = (event for event in made.events if isinstance(event, ImageDone))
    whole = made.finish()["one"]
    early_frame = np.asarray(Image.open(io.BytesIO(early.png))).astype(int)
    assert isinstance(whole, np.ndarray) and np.abs(early_frame - whole[0]).max() <= 1


def test_who_leaves_with_a_picture_leaves_nothing() -> None:
    made = studio("wan_begun")
    whole = made.film(media=shown(picture()))
    for turns in range(6):
        made.submit("leaves", "never seen", media=shown(picture(seed=10 + turns)), steps=4)
        made.submit("stays", media=shown(picture()))
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert np.abs(made.finish()["stays"] - whole).max() <= 1
        made.nothing_is_left()


@pytest.mark.parametrize(
    ("size", "filmed"),
    [((832, 480), (832, 480)), ((60, 60), (632, 632)), ((3000, 1000), (1088, 360)), ((1, 1000), (16, 256))],
)
def test_without_a_size_a_film_has_the_shape_of_its_picture(
    size: tuple[int, int], filmed: tuple[int, int]
) -> None:
    asked = Drawing(frames=1, steps=1)
    processor = studio("wan_begun").processor
    drawer = processor.drawer
    assert drawer is not None and drawer.longest == 256
    wider = dataclasses.replace(drawer, longest=4096)
    request = drawing_request("a cat", None, asked, id="one", media=shown(picture(*size)))
    drawing = (drawer if size == (1, 1000) else wider).complete(request).drawing
    assert drawing is not None and (drawing.width, drawing.height) == filmed


@pytest.mark.parametrize(
    ("family", "count", "more", "message", "param"),
    [
        ("wan", 1, {}, "takes no picture: leave it out", "input_reference"),
        ("wan_small", 2, {}, "takes the film's first picture, and the request has 2", "input_reference"),
        ("wan_begun", 0, {}, "films from a picture: send what is missing", "input_reference"),
        ("wan_begun", 2, {}, "takes the film's first picture, and the request has 2", "input_reference"),
        (
            "wan_begun_both",
            1,
            {},
            "from the film's first picture and its last: send what is missing",
            "input_reference",
        ),
        ("wan_begun_two", 3, {}, "first picture and its last, and the request has 3", "input_reference"),
        ("wan_begun_two", 2, {"frames": 1}, "more than one frame", "num_frames"),
        ("wan_begun", 1, {"strength": 0.5}, "strength means nothing", "strength"),
        ("wan_begun", 1, {"width": 20}, "multiples of 8 pixels; take 16 for 20", "size"),
    ],
)
def test_pictures_that_make_no_sense_are_refused(
    family: str, count: int, more: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio(family).submit("one", media=shown(*[picture()] * count), **more)
    assert caught.value.param == param


def test_what_is_no_picture_and_a_mask_are_refused() -> None:
    with pytest.raises(InvalidMedia, match="not a picture"):
        studio("wan_begun").submit("one", media=(Media("image", b"no picture"),))
    with pytest.raises(InvalidRequest, match="takes no mask"):
        studio("wan_begun").submit("one", media=(*shown(picture()), Media("mask", b"")))


def test_a_picture_that_breaks_in_its_stage_fails_its_request_alone() -> None:
    made = Studio(film_pipeline("wan_small")[1])
    (encoder,) = (one for one in made.engine.encoders if one.name == "vae_encoder")
    encoder.model.vae.encode = None
    made.submit("picture", media=shown(picture()))
    made.submit("text")
    ends = made.finish()
    assert isinstance(ends["picture"], Failed) and "vae_encoder" in ends["picture"].error.message
    assert isinstance(ends["text"], np.ndarray)
    made.nothing_is_left()


@pytest.mark.parametrize("family", BEGUN)
def test_a_seed_gives_one_film_whatever_shares_its_batches(family: str) -> None:
    made = studio(family)
    media = shown(*(picture(seed=number) for number in range(TAKEN[family])))
    alone = made.film(**GUIDED, media=media)
    for number, (width, frames) in enumerate([(32, 5), (16, 9), (32, 1 if TAKEN[family] == 1 else 5)]):
        asked = {"guidance": 3.0 if number % 2 else 1.0, "steps": 2 + number, "seed": number}
        other = shown(*(picture(seed=number + 5) for _ in media))
        made.submit(
            f"other {number}", "x" * (3 * number + 1), width=width, frames=frames, media=other, **asked
        )
        made.engine.loop.turn()
    made.submit("one", **GUIDED, media=media)
    assert np.abs(made.finish()["one"] - alone).max() <= 1
