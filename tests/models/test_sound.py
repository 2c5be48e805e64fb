"""Stable Audio: equal to diffusers' pipeline, the same in any batch, and nothing left when somebody leaves."""

from __future__ import annotations

import functools
import json
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tests.models.sound_pipelines import HOP, LENGTH, RATE, sound_pipeline
from tests.models.studio import Studio as Drawer
from tests.models.studio import options
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, InvalidRequest
from tutti.events import AudioDelta, Done, Failed, Progress
from tutti.formats.checkpoint import open_checkpoint
from tutti.media.audio_writer import samples_of
from tutti.models.drawing.cosine import cosine_dpm
from tutti.models.drawing.denoiser import Conditions, Denoiser
from tutti.models.processor.drawer import drawing_request
from tutti.models.registry import find_graph
from tutti.models.stable_audio.vae import StableAudioVae, Undecoded
from tutti.request import Drawing, Request, Text

GUIDED: dict[str, Any] = {"guidance": 4.0, "negative": "low quality"}
STEP = 1 / 32768  # of 16-bit samples


class Studio(Drawer):
    """An engine that makes sounds, and what it emitted."""

    def submit(self, name: str, prompt: str = "rain on a roof", **asked: Any) -> Request:
        fields = {"steps": 4, "seed": 5, **asked}
        negative, seed = fields.pop("negative", None), fields.pop("seed")
        request = self.processor.prepare(
            drawing_request(prompt, negative, Drawing(**fields), id=name, seed=seed)
        )
        self.engine.loop.submit(request)
        return request

    def finish(self) -> dict[str, np.ndarray | Failed]:
        """Work until nothing is left; the sound of each request, or how it failed."""
        while self.engine.loop.turn():
            pass
        found: dict[str, np.ndarray | Failed] = {}
        for event in self.events:
            if isinstance(event, Failed):
                found[event.request] = event
            elif isinstance(event, AudioDelta):
                found[event.request] = samples_of([event])
        self.events.clear()
        return found

    def sound(self, prompt: str = "rain on a roof", **asked: Any) -> np.ndarray:
        self.submit("one", prompt, **asked)
        found = self.finish()["one"]
        assert isinstance(found, np.ndarray), found
        return found


@functools.cache
def studio() -> Studio:
    return Studio(sound_pipeline()[1])


def reference(prompt: str = "rain on a roof", output: str = "np", seed: int = 5, **more: Any) -> Any:
    """What diffusers' pipeline makes of the same: float32 [samples, channels]."""
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsde's, of levels that rounding has put beside the path's ends
        made = sound_pipeline()[0](prompt, generator=generator, output_type=output, **more).audios[0]
    return made.T if output == "np" else made


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (GUIDED, {"guidance_scale": 4.0, "negative_prompt": "low quality"}),
        ({"guidance": 1.0}, {"guidance_scale": 1.0}),
        ({"steps": 1}, {"num_inference_steps": 1}),
        ({"steps": 20, "seconds": 0.3}, {"num_inference_steps": 20, "audio_end_in_s": 0.3}),
        ({"seconds": 0.25, "seconds_start": 0.5}, {"audio_start_in_s": 0.5, "audio_end_in_s": 0.75}),
    ],
)
def test_the_sound_is_the_pipelines(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    made = studio().sound(**ours)
    wanted = reference(**{"num_inference_steps": 4, **theirs})
    assert made.shape == wanted.shape and made.shape[1] == 2 and wanted.std() > 0.05
    assert np.abs(made - wanted.clip(-1, 1)).max() <= 20 * STEP  # the latents are nearer


@torch.inference_mode()
@pytest.mark.parametrize("steps", [2, 16])
def test_the_latents_are_the_pipelines(steps: int) -> None:
    made = studio()
    model, text = made.engine.runner.model, made.engine.encoders[0].model
    assert isinstance(model, Denoiser)
    request = made.submit("one", steps=steps, **GUIDED)
    made.finish()
    state = model.start(
        request, Conditions(*(text.encode(part.text) for part in request.parts if isinstance(part, Text)))
    )
    while model.progress(state)[0] < steps:
        (state,) = model.step([state])
    theirs = reference(
        output="latent", num_inference_steps=steps, guidance_scale=4.0, negative_prompt="low quality"
    )
    assert state.latents.shape == (4, LENGTH)
    torch.testing.assert_close(state.latents, theirs, atol=1e-4, rtol=1e-4)


def test_a_seed_gives_one_sound_whatever_shares_its_batches() -> None:
    made = studio()
    alone = made.sound("a dog", **GUIDED)
    for number in range(4):
        asked = {"guidance": 3.0 if number % 2 else 1.0, "steps": 2 + number, "seed": number}
        made.submit(f"other {number}", "x" * (3 * number + 1), seconds=0.2 + number / 10, **asked)
        made.engine.loop.turn()
    made.submit("one", "a dog", **GUIDED)
    ends = made.finish()
    assert len(ends) == 5 and ends["other 2"].shape == (round(0.4 * RATE), 2)
    assert np.abs(ends["one"] - alone).max() <= 2 * STEP
    assert np.abs(made.sound("a dog", **GUIDED | {"seed": 6}) - alone).max() > 0.01


def test_all_sounds_share_batches() -> None:
    made = studio()
    for number in range(3):
        made.submit(str(number), "a dog", seed=number, seconds=0.1 + number / 10)
    before = made.engine.loop.stats.steps["denoiser"].count
    made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 4


def test_progress_comes_on_the_way_and_a_note_with_the_sound() -> None:
    made = studio()
    made.submit("one", seconds=0.5, **GUIDED)
    while made.engine.loop.turn():
        pass
    steps = [(event.done, event.total) for event in made.events if isinstance(event, Progress)]
    (sound,) = [event for event in made.events if isinstance(event, AudioDelta)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (sound.rate, sound.channels, sound.seconds) == (RATE, 2, 0.5)
    assert json.loads(sound.note) == {
        "prompt": "rain on a roof",
        "negative_prompt": "low quality",
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 5,
        "seconds": 0.5,
        "seconds_start": 0.0,
    }
    assert made.events[-1] == Done("one", "stop")
    made.finish()


def test_who_leaves_at_any_step_leaves_nothing() -> None:
    made = studio()
    whole = made.sound()
    for turns in range(8):
        made.submit("leaves", "a dog", steps=5)
        made.submit("stays")
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert np.abs(made.finish()["stays"] - whole).max() <= 2 * STEP
        made.nothing_is_left()


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        ({"seconds": 1.5}, "last 0.96 seconds at most, and 1.5 seconds are more", "seconds"),
        ({"seconds": 0.5, "seconds_start": 0.5}, "and 0.5 seconds from 0.5 on are more", "seconds"),
        ({"seconds": 0.0}, "from 0.01 to 0.96, got 0", "seconds"),
        ({"seconds": float("nan")}, "from 0.01 to 0.96, got nan", "seconds"),
        ({"seconds_start": -1.0}, "at least 0 and less than 0.96", "seconds_start"),
        ({"seconds_start": 0.96}, "where this model's sounds end", "seconds_start"),
        ({"width": 16}, "size is for models that draw", "size"),
        ({"frames": 5}, "num_frames is for models that draw", "num_frames"),
        ({"cache": "teacache"}, "cache is for models that draw", "cache"),
        ({"previews": 1}, "not heard before it is made", "partial_images"),
        ({"steps": 0}, "from 1 to 1,000, got 0", "num_inference_steps"),
        ({"guidance": -1.0}, "from 0 to 100, got -1.0", "guidance_scale"),
        ({"prompt": " "}, "the prompt is empty", "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    asked: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio().submit("one", **asked)
    assert caught.value.param == param


def test_a_prompt_longer_than_the_encoder_reads_is_refused_with_both_numbers() -> None:
    made = studio()
    made.submit("one", "x" * 25)
    end = made.finish()["one"]
    assert (
        isinstance(end, Failed) and "25 tokens, and this model's text encoder takes 24" in end.error.message
    )


@torch.inference_mode()
def test_a_sound_that_is_decoded_in_windows_is_the_one_decoded_whole() -> None:
    vae = studio().engine.encoders[1].model
    assert isinstance(vae, StableAudioVae)
    latents = torch.randn(4, LENGTH, generator=torch.Generator().manual_seed(0))
    whole = vae.vae.decode(latents[None]).sample[0].T
    for window, first, last in ((7, 0, LENGTH * HOP), (16, 400, 2000), (40, 1111, 1112), (200, 5, 2900)):
        model = StableAudioVae(vae.vae, vae.halo, window)
        pieces = model.split(Undecoded(latents, first, last, "note"))
        assert len({piece.latents.shape for piece in pieces}) == 1
        assert len(pieces) >= (last - first) / HOP / window
        made = model.join([one for piece in pieces for one in model.run([piece])])
        assert made.samples.shape == (last - first, 2) and made.note == "note"
        torch.testing.assert_close(made.samples, whole[first:last], atol=1e-5, rtol=1e-5)


def test_the_plan_counts_what_a_sound_takes() -> None:
    checkpoint = open_checkpoint(sound_pipeline()[1])
    graph = find_graph(checkpoint.config)
    plan = plan_for(checkpoint, graph, options(checkpoint.path), torch.device("cpu"))
    rows = {row.name: row.bytes for row in plan.rows}
    assert graph.outputs == {"sound"} and plan.drawing is not None
    assert rows["pictures"] > plan.drawing.requests * 48 * 4 * LENGTH * 4  # the noise's path, at least
    assert plan.drawing.largest >= 2 * (LENGTH + 1 + 26)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"sigma_schedule": "karras"},
    {"solver_order": 1},
    {"solver_type": "heun"},
    {"sigma_min": 0.1, "sigma_max": 80, "sigma_data": 0.5},
    {"euler_at_final": True, "lower_order_final": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.filterwarnings("ignore:Should have t")
def test_the_sampler_goes_where_the_scheduler_goes(settings: dict[str, Any], steps: int) -> None:
    scheduler = diffusers.CosineDPMSolverMultistepScheduler(**settings)
    scheduler.set_timesteps(steps)
    sampler = cosine_dpm({"_class_name": "CosineDPMSolverMultistepScheduler", **scheduler.config})
    levels = sampler.levels(steps, 0)
    assert torch.equal(levels, scheduler.sigmas)
    assert torch.equal(sampler.times(levels[:-1]), scheduler.timesteps)
    generator = torch.Generator().manual_seed(3)
    history = sampler.begin((4, 6), 3)
    theirs = torch.randn(1, 4, 6, generator=generator) * scheduler.init_noise_sigma
    ours = theirs[0]
    for done, time in enumerate(scheduler.timesteps):
        velocity = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(done))
        assert torch.equal(sampler.scaled(ours, levels[done]), scheduler.scale_model_input(ours, time))
        theirs = scheduler.step(velocity, time, theirs, generator=generator).prev_sample
        ours, history = sampler.step(ours, velocity[0], levels, done, history)
        torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "setting", [{"prediction_type": "epsilon"}, {"final_sigmas_type": "sigma_min"}, {"solver_order": 3}]
)
def test_a_schedule_that_is_not_ours_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(setting))):
        cosine_dpm({"_class_name": "CosineDPMSolverMultistepScheduler", **setting})
    with pytest.raises(CheckpointError, match="DDIMScheduler is not supported"):
        cosine_dpm({"_class_name": "DDIMScheduler"})
