"""Families that film: equal to diffusers' pipelines, the same in any batch, and nothing left when somebody leaves."""

from __future__ import annotations

import io
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.film_pipelines import FILMS, film_pipeline
from tests.models.film_studio import Studio, studio
from tests.models.studio import options
from tutti.engine.denoise import Denoise
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, InvalidRequest
from tutti.events import Done, Failed, ImageDone, Progress, VideoDelta
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.drawing.unipc import unipc
from tutti.models.registry import find_graph

GUIDED: dict[str, Any] = {"guidance": 3.0, "negative": "blue"}


def reference(family: str, prompt: str = "a cat walks", **more: Any) -> np.ndarray:
    fields = {"width": 32, "height": 16, "num_frames": 5, "num_inference_steps": 3, **more}
    generator = torch.Generator().manual_seed(5)
    frames = film_pipeline(family)[0](prompt, generator=generator, output_type="pil", **fields).frames[0]
    return np.stack([np.asarray(frame) for frame in frames]).astype(int)


@pytest.mark.parametrize("family", FILMS)
@pytest.mark.parametrize("guided", [True, False])
def test_the_film_is_the_pipelines(family: str, guided: bool) -> None:
    scale = 3.0 if guided else 1.0
    ours = studio(family).film(guidance=scale, negative="blue")
    theirs = reference(family, guidance_scale=scale, negative_prompt="blue")
    assert theirs.std() > 5 and theirs.shape == (5, 16, 32, 3)
    assert np.abs(ours - theirs).max() <= 1


def test_the_habits_of_two_networks_are_two_scales() -> None:
    made = studio("wan_two")
    theirs = reference("wan_two", guidance_scale=4.0, guidance_scale_2=3.0, num_inference_steps=4)
    assert np.abs(made.film(steps=4) - theirs).max() <= 1
    assert np.abs(made.film(steps=4, guidance=4.0) - theirs).max() > 1  # who says one means both
    assert np.abs(made.film(steps=4, guidance=4.0, guidance_2=3.0) - theirs).max() <= 1


@pytest.mark.parametrize("family", FILMS)
def test_a_seed_gives_one_film_whatever_shares_its_batches(family: str) -> None:
    made = studio(family)
    alone = made.film(**GUIDED)
    for number, (width, frames) in enumerate([(32, 5), (32, 5), (16, 9), (32, 1)]):
        asked = {"guidance": 3.0 if number % 2 else 1.0, "steps": 2 + number, "seed": number}
        made.submit(f"other {number}", "x" * (3 * number + 1), width=width, frames=frames, **asked)
        made.engine.loop.turn()
    made.submit("one", **GUIDED)
    ends = made.finish()
    assert len(ends) == 5 and ends["other 2"].shape == (9, 16, 16, 3)
    assert np.abs(ends["one"] - alone).max() <= 1
    assert np.abs(made.film(**GUIDED | {"seed": 6}) - alone).max() > 8


def test_films_of_a_size_share_batches() -> None:
    made = studio("wan")
    for number in range(3):
        made.submit(str(number), "a dog", seed=number)
    before = made.engine.loop.stats.steps["denoiser"].count
    made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 3


def test_progress_and_first_frames_come_on_the_way() -> None:
    made = studio("wan")
    made.submit("one", steps=4, previews=2, fps=8)
    while made.engine.loop.turn():
        pass
    steps = [(event.done, event.total) for event in made.events if isinstance(event, Progress)]
    shown = [event for event in made.events if isinstance(event, ImageDone)]
    films = [event for event in made.events if isinstance(event, VideoDelta)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [event.preview for event in shown] == [True, True]
    assert Image.open(io.BytesIO(shown[0].png)).size == (32, 16)
    assert [(film.shape, film.rate) for film in films] == [((5, 16, 32), 8.0)]
    assert made.events[-1] == Done("one", "stop")
    made.finish()


def test_a_large_film_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    made = studio("wan")
    whole = made.film()
    monkeypatch.setattr("tutti.engine.outputs._PIECE", 2 * 32 * 16 * 3)
    made.submit("one")
    while made.engine.loop.turn():
        pass
    pieces = [event.shape[0] for event in made.events if isinstance(event, VideoDelta)]
    assert pieces == [2, 2, 1]
    assert np.array_equal(made.finish()["one"], whole)


def test_who_leaves_at_any_step_leaves_nothing() -> None:
    made = studio("wan")
    whole = made.film()
    for turns in range(7):
        made.submit("leaves", "a dog", steps=4)
        made.submit("stays")
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert np.abs(made.finish()["stays"] - whole).max() <= 1
        made.nothing_is_left()


@pytest.mark.parametrize(
    ("family", "asked", "message", "param"),
    [
        ("wan", {"width": 20}, "multiples of 8 pixels; take 16 for 20", "size"),
        ("wan", {"frames": 6}, "a multiple of 4 and one more; take 5 for 6", "num_frames"),
        ("wan", {"frames": 0}, "from 1 to 125, got 0", "num_frames"),
        ("wan", {"frames": 129}, "from 1 to 125, got 129", "num_frames"),
        ("wan", {"fps": 0.0}, "from 1 to 120, got 0", "fps"),
        ("wan", {"fps": float("nan")}, "from 1 to 120, got nan", "fps"),
        ("wan", {"guidance_2": 2.0}, "this one has one: give guidance_scale", "guidance_scale_2"),
        ("wan_two", {"guidance_2": -2.0}, "from 0 to 100, got -2.0", "guidance_scale_2"),
        ("wan", {"prompt": " "}, "the prompt is empty", "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    family: str, asked: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio(family).submit("one", **asked)
    assert caught.value.param == param


def test_a_film_that_does_not_fit_in_the_memory_is_refused_when_it_comes() -> None:
    made = Studio(film_pipeline("wan")[1])
    assert isinstance(made.engine.runner, Denoise)
    made.engine.runner.largest = 1200
    made.submit("large", width=64, height=64, frames=21)
    made.submit("small")
    ends = made.finish()
    assert isinstance(ends["large"], Failed) and "there is memory for 1,200" in ends["large"].error.message
    assert isinstance(ends["small"], np.ndarray)


def test_the_plan_counts_both_networks_and_the_films_under_way() -> None:
    plans = {}
    for family in ("wan", "wan_two"):
        checkpoint = open_checkpoint(film_pipeline(family)[1])
        plan = plan_for(
            checkpoint, find_graph(checkpoint.config), options(checkpoint.path), torch.device("cpu")
        )
        plans[family] = {row.name: row.bytes for row in plan.rows}
    assert plans["wan_two"]["weights"] > plans["wan"]["weights"]
    latents = 4 * 21 * (832 // 4) * (480 // 4) * 4  # bytes of one film's, of the usual size
    assert plans["wan"]["pictures"] > 6 * latents


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flow_shift": 5.0},
        {"solver_order": 3},
        {"solver_order": 1},
        {"disable_corrector": [0, 2]},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_the_sampler_goes_where_the_scheduler_goes(settings: dict[str, Any], steps: int) -> None:
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, **settings
    )
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    sampler = unipc(dict(scheduler.config))
    levels = sampler.levels(steps, 0)
    assert torch.equal(levels, scheduler.sigmas)
    assert list(sampler.times(steps)) == scheduler.timesteps.tolist()
    generator = torch.Generator().manual_seed(0)
    ours = theirs = torch.randn(1, 4, 2, 4, 4, generator=generator)
    history = None
    for done, time in enumerate(scheduler.timesteps):
        velocity = torch.randn(ours.shape, generator=generator) + ours / 3
        theirs = scheduler.step(velocity, time, theirs, return_dict=False)[0]
        ours, history = sampler.step(ours, velocity, levels, done, history)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "setting", [{"use_karras_sigmas": True}, {"use_flow_sigmas": False}, {"solver_type": "bh1"}]
)
def test_a_schedule_that_is_not_ours_is_refused(setting: dict[str, Any]) -> None:
    usual = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    with pytest.raises(CheckpointError, match=next(iter(setting))):
        unipc(usual | setting)


@torch.inference_mode()
def test_a_large_film_is_decoded_in_tiles() -> None:
    from tutti.models.drawing.denoiser import Decoded, Latents

    (decoder,) = (one.model for one in studio("wan").engine.encoders if one.name == "vae")
    latents = torch.randn(4, 2, 72, 16, generator=torch.Generator().manual_seed(0))
    item = Decoded(Latents(latents), "", 16.0)
    whole = decoder.run([item])[0].frames.astype(int)
    tiled = type(decoder)(decoder.vae, budget=100).run([item])[0].frames.astype(int)
    assert tiled.shape == whole.shape == (5, 288, 64, 3)
    assert not np.array_equal(tiled, whole) and np.abs(tiled - whole).mean() < 10 < whole.std()
