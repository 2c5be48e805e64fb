"""LTX-Video: equal to diffusers' pipelines, from text and from a picture, the same in any batch."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition, linear_quadratic_schedule

from tests.models.film_pipelines import film_pipeline
from tests.models.film_studio import studio
from tests.models.test_film_pictures import picture, shown
from tutti.errors import CheckpointError, InvalidRequest
from tutti.models.ltx.levels import sampler

EQUAL = ("ltx", "ltx_timed", "ltx_later")
OURS: dict[str, Any] = {
    "width": 64,
    "height": 32,
    "frames": 9,
    "steps": 4,
    "guidance": 3.0,
    "negative": "blue",
}


def reference(family: str, prompt: str = "a cat walks", begun: bool = False, **more: Any) -> np.ndarray:
    made = film_pipeline(family)[0]
    if begun and family != "ltx_later":  # published as the other pipeline, of the same components
        made = diffusers.LTXImageToVideoPipeline(**made.components)
        made.set_progress_bar_config(disable=True)
    if made.vae.config.timestep_conditioning:
        more |= {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
    fields = {"width": 64, "height": 32, "num_frames": 9, "num_inference_steps": 4, **more}
    frames = made(
        prompt=prompt,
        negative_prompt="blue",
        generator=torch.Generator().manual_seed(5),
        output_type="pil",
        **({"image": picture()} if begun else {}),
        **{"guidance_scale": 3.0, **fields},
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in frames]).astype(int)


@pytest.mark.parametrize("family", EQUAL)
@pytest.mark.parametrize("begun", [False, True])
def test_the_film_is_the_pipelines(family: str, begun: bool) -> None:
    media = shown(picture()) if begun else ()
    for scale, fps in ((3.0, 25), (1.0, 8)):
        ours = studio(family).film(**OURS | {"guidance": scale, "fps": float(fps)}, media=media)
        theirs = reference(family, begun=begun, guidance_scale=scale, frame_rate=fps)
        assert theirs.std() > 5 and theirs.shape == (9, 32, 64, 3)
        assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - studio(family).film(**OURS | {"guidance": scale, "seed": 6}, media=media)).max() > 8


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_a_film_that_ends_with_a_picture_too_is_the_pipelines(scale: float) -> None:
    made, images = studio("ltx_later"), (picture(), picture(seed=1))
    ours = made.film(**OURS | {"guidance": scale}, media=shown(*images))
    conditions = [
        LTXVideoCondition(image=image, frame_index=index) for image, index in zip(images, (0, 8), strict=True)
    ]
    theirs = reference("ltx_later", conditions=conditions, guidance_scale=scale)
    assert np.abs(ours - theirs).max() <= 1
    begun = made.film(**OURS | {"guidance": scale}, media=shown(images[0]))
    assert np.abs(ours - begun).max() > 8
    made.submit("both", **OURS | {"guidance": scale}, media=shown(*images))
    made.submit("begun", **OURS | {"guidance": scale}, media=shown(images[0]))
    ends = made.finish()
    assert np.abs(ends["both"] - ours).max() <= 1 and np.abs(ends["begun"] - begun).max() <= 1


def test_one_step_is_the_pipelines() -> None:
    ours = studio("ltx_later").film(**OURS | {"steps": 1})
    assert np.abs(ours - reference("ltx_later", num_inference_steps=1)).max() <= 1


@pytest.mark.parametrize("family", [*EQUAL, "ltx_by_chance"])
def test_a_seed_gives_one_film_whatever_shares_its_batches(family: str) -> None:
    made = studio(family)
    media = shown(picture())
    alone, told = made.film(**OURS, media=media), made.film(**OURS)
    assert np.abs(alone - told).max() > 8
    for number, frames in enumerate((9, 5)):
        asked = OURS | {"frames": frames, "steps": 2 + number, "seed": number, "fps": 8.0}
        made.submit(f"other {number}", "x" * (3 * number + 1), **asked)
        made.engine.loop.turn()
    made.submit("begun", **OURS, media=media)
    made.submit("told", **OURS)
    ends = made.finish()
    assert np.abs(ends["begun"] - alone).max() <= 1
    assert np.abs(ends["told"] - told).max() <= 1


def test_films_share_batches_whatever_their_prompts_pictures_and_frame_rates() -> None:
    made = studio("ltx_later")
    made.submit("one", "a", **OURS, fps=8.0)
    made.submit("two", "a longer prompt", **OURS, media=shown(picture()))
    before = made.engine.loop.stats.steps["denoiser"].count
    made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 4


def test_a_large_film_is_decoded_in_tiles_in_space_and_in_time() -> None:
    from tutti.models.drawing.denoiser import Decoded, Latents

    (decoder,) = (one.model for one in studio("ltx").engine.encoders if one.name == "vae")
    item = Decoded(Latents(torch.randn(8, 9, 4, 6, generator=torch.Generator().manual_seed(0))), "", 25.0)
    with torch.inference_mode():
        whole = decoder.run([item])[0].frames.astype(int)
        tiled = type(decoder)(decoder.vae, budget=50).run([item])[0].frames.astype(int)
        assert np.array_equal(decoder.run([item])[0].frames, whole)
    assert tiled.shape == whole.shape == (33, 64, 96, 3)
    assert not np.array_equal(tiled, whole)
    assert np.abs(tiled[0] - whole[0]).mean() < 10 < whole.std()  # what comes later sees less of the film


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        ({"width": 30}, "multiples of 16 pixels; take 32 for 30", "size"),
        ({"frames": 8}, "a multiple of 4 and one more; take 9 for 8", "num_frames"),
        (
            {"media": shown(picture(), picture())},
            "takes the film's first picture, and the request has 2",
            "input_reference",
        ),
        ({"cache": "fast"}, "cache must be one of none, first_block, teacache", "cache"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], message: str, param: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio("ltx").submit("one", **OURS | asked)
    assert caught.value.param == param


def test_the_levels_of_later_models_are_the_pipelines_and_no_others() -> None:
    plain = {"use_dynamic_shifting": False}
    for steps in (1, 2, 3, 8, 50):
        ours = sampler(plain, conditional=True).levels(steps, 0)
        torch.testing.assert_close(ours[:-1], linear_quadratic_schedule(steps))
        assert ours[-1] == 0
    with pytest.raises(CheckpointError, match="levels that are shifted"):
        sampler({"use_dynamic_shifting": True}, conditional=True)
