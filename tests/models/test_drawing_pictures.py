"""Drawing from pictures and with masks: equal to diffusers' pipelines, in the batches of those who draw from text."""

from __future__ import annotations

import io
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.pipelines import pipeline
from tests.models.studio import MANNERS, Studio, pixels, studio
from tutti.errors import InvalidMedia, InvalidRequest
from tutti.events import Failed, ImageDone
from tutti.request import Media

BEGUN = {
    "z_image": diffusers.ZImageImg2ImgPipeline,
    "flux_dev": diffusers.FluxImg2ImgPipeline,
    "flux_schnell": diffusers.FluxImg2ImgPipeline,
    "qwen_image": diffusers.QwenImageImg2ImgPipeline,
    "sd3": diffusers.StableDiffusion3Img2ImgPipeline,
    "sdxl": diffusers.StableDiffusionXLImg2ImgPipeline,
    "sdxl_turbo": diffusers.StableDiffusionXLImg2ImgPipeline,
}
MASKED = {
    "z_image": diffusers.ZImageInpaintPipeline,
    "flux_dev": diffusers.FluxInpaintPipeline,
    "qwen_image": diffusers.QwenImageInpaintPipeline,
    "sd3": diffusers.StableDiffusion3InpaintPipeline,
    "sdxl": diffusers.StableDiffusionXLInpaintPipeline,
}


def picture(width: int = 16, height: int = 24, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def mask(width: int = 16, height: int = 24) -> Image.Image:
    values = np.zeros((height, width), np.uint8)
    values[: height // 2, 3:] = 255
    return Image.fromarray(values)


def file(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def shown(image: Image.Image) -> Media:
    return Media("image", file(image))


def theirs(kind: type[Any], family: str, output: str, **more: Any) -> Any:
    parts = pipeline(family)[0].components
    networks = {"scheduler", "vae", "transformer", "unet"}
    made = kind(**{name: parts[name] for name in parts if name in networks or name[:4] in ("text", "toke")})
    made.set_progress_bar_config(disable=True)
    fields = {"width": 16, "height": 24, "num_inference_steps": 4, "strength": 0.5, **MANNERS[family], **more}
    generator = torch.Generator().manual_seed(5)
    return made("a red circle", generator=generator, output_type=output, **fields).images[0]


@pytest.mark.parametrize("family", BEGUN)
@pytest.mark.parametrize("strength", [0.5, 0.8, 1.0])
def test_a_picture_begun_from_is_the_pipelines(family: str, strength: float) -> None:
    media = (shown(picture()),)
    ours = studio(family).draw(manner=MANNERS[family], media=media, strength=strength, steps=4)
    them = np.asarray(theirs(BEGUN[family], family, "pil", image=picture(), strength=strength)).astype(int)
    assert them.std() > 5
    assert np.abs(ours - them).max() <= 1


@pytest.mark.parametrize("family", MASKED)
@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_what_is_drawn_within_a_mask_is_the_pipelines(family: str, strength: float) -> None:
    media = (shown(picture()), Media("mask", file(mask())))
    ours = studio(family).draw(manner=MANNERS[family], media=media, strength=strength, steps=4)
    asked = {"image": picture(), "mask_image": mask(), "strength": strength}
    if family == "sd3":  # its decoding leaves out the VAE's shift
        latents = theirs(MASKED[family], family, "latent", **asked)
        vae = pipeline(family)[0].vae
        with torch.inference_mode():
            found = vae.decode(latents[None] / vae.config.scaling_factor + vae.config.shift_factor).sample
        them = ((found[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
    else:
        them = np.asarray(theirs(MASKED[family], family, "pil", **asked)).astype(int)
    assert them.std() > 5
    assert np.abs(ours - them).max() <= 1


def test_what_begins_from_a_picture_shares_the_batches_of_what_does_not() -> None:
    made, manner = studio("flux_dev"), MANNERS["flux_dev"]
    alone = made.draw(manner=manner, media=(shown(picture()),), strength=0.5, steps=6)
    made.submit("text", "a cat", manner, steps=3)
    made.submit("picture", manner=manner, media=(shown(picture()),), strength=0.5, steps=6)
    before = made.engine.loop.stats.steps["denoiser"].count
    ends = made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 3
    assert isinstance(ends["text"], ImageDone)
    assert np.abs(pixels(ends["picture"]) - alone).max() <= 1


def test_a_picture_is_encoded_once() -> None:
    made = studio("z_image")
    (encoder,) = (one for one in made.engine.encoders if one.name == "vae_encoder")
    fresh = (shown(picture(seed=9)),)
    first = made.draw(media=fresh)
    items = encoder.items
    assert np.abs(made.draw(media=fresh, seed=6) - first).max() > 8  # another seed, the same picture
    assert encoder.items == items


def test_who_begins_from_a_picture_and_leaves_leaves_nothing() -> None:
    made = studio("z_image")
    whole = made.draw(media=(shown(picture()),))
    for turns in range(6):
        made.submit("leaves", "never seen", media=(shown(picture(seed=10 + turns)),), steps=4)
        made.submit("stays", media=(shown(picture()),))
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert np.abs(pixels(made.finish()["stays"]) - whole).max() <= 1
        made.nothing_is_left()


def test_less_strength_takes_fewer_steps_and_stays_nearer() -> None:
    made = studio("z_image")
    own = (shown(picture()),)
    before = made.engine.loop.stats.steps["denoiser"].count
    made.draw(media=own, strength=0.01, steps=4)
    assert made.engine.loop.stats.steps["denoiser"].count - before == 1


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((16, 24), (16, 24)), ((18, 27), (16, 24)), ((400, 200), (256, 128)), ((2, 3), (4, 4))],
)
def test_without_a_size_the_pictures_own_is_taken_as_far_as_the_model_goes(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    made = studio("z_image")
    media = (shown(picture(*size)),)
    request = made.submit("one", media=media, width=None, height=None, steps=1)
    assert (request.parts[-1].width, request.parts[-1].height) == drawn  # type: ignore[union-attr]
    end = made.finish()["one"]
    assert pixels(end).shape == (drawn[1], drawn[0], 3)


@pytest.mark.parametrize(
    ("media", "more", "message", "param"),
    [
        (
            (shown(picture()), Media("mask", file(mask(16, 16)))),
            {},
            "16x16 pixels and the picture 16x24",
            "mask",
        ),
        ((shown(picture()), Media("mask", file(mask())), Media("mask", file(mask()))), {}, "2 masks", "mask"),
        ((Media("mask", file(mask())),), {}, "a mask alone", "image"),
        ((shown(picture()), shown(picture())), {}, "one picture, and the request has 2", "image"),
        ((shown(picture()),), {"strength": 1.5}, "strength must be above 0 and at most 1", "strength"),
        ((shown(picture()),), {"strength": float("nan")}, "strength must be above 0", "strength"),
        ((), {"strength": 0.5}, "send one", "strength"),
        ((Media("image", b"no picture"),), {}, "not a picture", None),
        ((Media("image", b""),), {}, "empty file", None),
        ((Media("audio", b"RIFF"),), {}, "draws pictures, and does nothing else", "model"),
        ((shown(picture()),), {"width": 17}, "multiples of 4 pixels", "size"),
    ],
)
def test_pictures_that_make_no_sense_are_refused_before_anything_is_computed(
    media: tuple[Media, ...], more: dict[str, Any], message: str, param: str | None
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio("z_image").submit("one", media=media, **more)
    assert caught.value.param == param


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    large = Image.new("1", (9000, 9000))
    with pytest.raises(InvalidMedia, match="9000 x 9000"):
        studio("z_image").submit("one", media=(shown(large),))


def test_a_picture_that_breaks_in_its_stage_fails_its_request_alone() -> None:
    made = Studio(pipeline("z_image")[1])
    (encoder,) = (one for one in made.engine.encoders if one.name == "vae_encoder")
    kept, encoder.model.vae.encode = encoder.model.vae.encode, None
    made.submit("picture", media=(shown(picture()),))
    made.submit("text")
    ends = made.finish()
    encoder.model.vae.encode = kept
    assert isinstance(ends["picture"], Failed) and "vae_encoder" in ends["picture"].error.message
    assert isinstance(ends["text"], ImageDone)
    made.nothing_is_left()
