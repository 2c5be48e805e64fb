"""Models that edit: they look at pictures, and are told what becomes of them. Equal to diffusers' pipelines."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.pipelines import EDITORS, pipeline
from tests.models.studio import Studio, pixels
from tests.models.test_drawing_pictures import file, mask, picture, shown
from tutti.engine.denoise import Denoise
from tutti.errors import InvalidRequest
from tutti.events import Failed, ImageDone
from tutti.models.processor.editor import Editor
from tutti.models.processor.pictures import Sources
from tutti.request import Media

MANNER = {"true_cfg_scale": 4.0, "negative_prompt": "blue"}
SMALLER = 256  # times, so that the pictures are tiny: the pipelines draw and look at 1024 x 1024 pixels
SIZES = ((64, 64), (96, 64), (64, 96))  # instead of those that Kontext was trained with


@functools.cache
def editor(family: str) -> Studio:
    made = Studio(pipeline(family)[1])
    drawer = made.processor.drawer
    glance = None if drawer.glance is None else drawer.glance // SMALLER
    sizes = SIZES if drawer.sizes else ()
    small = dataclasses.replace(drawer, width=1024 // 16, height=1024 // 16, glance=glance, sizes=sizes)
    made.processor = dataclasses.replace(made.processor, drawer=small)
    return made


@pytest.fixture(params=EDITORS)
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family, and its pipeline as it works: at a smaller area, and with the kinds of tokens told to its encoder."""
    pipe, _ = pipeline(request.param)
    module = importlib.import_module(type(pipe).__module__)
    if request.param == "flux_kontext":
        monkeypatch.setattr(module, "PREFERRED_KONTEXT_RESOLUTIONS", SIZES)
        yield request.param
        return
    whole = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio: whole(area / SMALLER, ratio))

    def told(encoder: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        kinds = (kwargs["input_ids"] == encoder.config.image_token_id).int()
        return args, kwargs | {"mm_token_type_ids": kinds}

    hook = pipe.text_encoder.register_forward_pre_hook(told, with_kwargs=True)
    yield request.param
    hook.remove()


def theirs(family: str, images: list[Any], **more: Any) -> np.ndarray:
    fields = {"num_inference_steps": 3, **MANNER, **more}
    generator = torch.Generator().manual_seed(5)
    image = images if family.endswith("plus") else images[0] if images else None
    if family == "flux_kontext":  # whose own habit is a square
        fields = {"width": 96, "height": 64, **fields}
        fields["max_area"] = fields["width"] * fields["height"]
    found = pipeline(family)[0](image, "make it red", generator=generator, **fields).images[0]
    return np.asarray(found).astype(int)


def ours(family: str, images: list[Any], **more: Any) -> np.ndarray:
    fields = {"width": None, "height": None, **more}
    return editor(family).draw("make it red", MANNER, media=tuple(map(shown, images)), **fields)


def test_an_edited_picture_is_the_pipelines(family: str) -> None:
    images = [picture(40, 24)]
    made, them = ours(family, images), theirs(family, images)
    assert made.shape == them.shape == (64, 96, 3) and them.std() > 5
    assert np.abs(made - them).max() <= 1
    made, them = ours(family, images, width=32, height=48), theirs(family, images, width=32, height=48)
    assert made.shape == them.shape == (48, 32, 3)
    assert np.abs(made - them).max() <= 1


@pytest.mark.parametrize("family", ["flux_kontext"], indirect=True)
def test_kontext_draws_without_a_picture_too(family: str) -> None:
    made = ours(family, [], width=32, height=48)
    assert np.abs(made - theirs(family, [], width=32, height=48)).max() <= 1


def test_kontext_looks_at_pictures_in_a_size_that_it_was_trained_with() -> None:
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

    drawer = Studio(pipeline("flux_kontext")[1]).processor.drawer
    assert isinstance(drawer, Editor) and set(drawer.sizes) == set(PREFERRED_KONTEXT_RESOLUTIONS)
    sources = Sources((np.zeros((1080, 1920, 3), np.uint8),))
    assert drawer.size_for(sources) == (1392, 752)


@pytest.mark.parametrize("family", ["qwen_image_edit_plus"], indirect=True)
def test_several_pictures_are_looked_at(family: str) -> None:
    images = [picture(40, 24), picture(32, 32, seed=1)]
    made, them = ours(family, images), theirs(family, images)
    assert made.shape == them.shape == (64, 64, 3)
    assert np.abs(made - them).max() <= 1
    assert np.abs(made - ours(family, images[:1], width=64, height=64)).max() > 8


@pytest.mark.parametrize("family", EDITORS)
def test_an_edit_is_the_same_whatever_shares_its_batches(family: str) -> None:
    made = editor(family)
    alone = ours(family, [picture(32, 32)])
    others = [
        (picture(32, 32, seed=3), "turn it"),
        (picture(40, 24), "cut it"),
        (picture(32, 32), "make it red"),
    ]
    for number, (image, prompt) in enumerate(others):
        made.submit(
            str(number), prompt, MANNER, media=(shown(image),), seed=number, steps=2, width=None, height=None
        )
        made.engine.loop.turn()
    made.submit("one", "make it red", MANNER, media=(shown(picture(32, 32)),), width=None, height=None)
    ends = made.finish()
    assert all(isinstance(end, ImageDone) for end in ends.values())
    assert np.abs(pixels(ends["one"]) - alone).max() <= 1
    made.nothing_is_left()


@pytest.mark.parametrize(
    ("media", "more", "message", "param"),
    [
        ((), {}, "edits pictures: send one", "image"),
        ((shown(picture()), shown(picture())), {}, "one picture at most, and the request has 2", "image"),
        ((shown(picture()), Media("mask", file(mask()))), {}, "takes no mask", "mask"),
        ((shown(picture()),), {"strength": 0.5}, "strength means nothing", "strength"),
    ],
)
def test_what_an_editor_does_not_do_is_refused(
    media: tuple[Media, ...], more: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        editor("qwen_image_edit").submit("one", media=media, width=32, height=32, **more)
    assert caught.value.param == param


def test_the_token_of_a_picture_in_a_prompt_is_refused_by_name() -> None:
    made = editor("qwen_image_edit")
    made.submit("one", "make <|image_pad|> red", media=(shown(picture(32, 32)),), width=32, height=32)
    end = made.finish()["one"]
    assert isinstance(end, Failed) and "stands for pictures" in end.error.message
    made.nothing_is_left()


def test_a_feature_cache_spares_steps_of_an_edit_too(family: str) -> None:
    images = [picture(40, 24)]
    plain = ours(family, images, steps=5)
    runner = editor(family).engine.runner
    assert isinstance(runner, Denoise)
    before = runner.skipped
    assert np.array_equal(ours(family, images, steps=5, cache="first_block", cache_threshold=0.0), plain)
    assert runner.skipped == before
    cached = ours(family, images, steps=5, cache="teacache", cache_threshold=10.0)
    assert runner.skipped == before + 3 and not np.array_equal(cached, plain)
