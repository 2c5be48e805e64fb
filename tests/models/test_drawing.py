"""Families that draw: equal to diffusers' pipelines, the same in any batch, and nothing left when somebody leaves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tests.models.pipelines import MAKERS, pipeline
from tests.models.studio import MANNERS, Studio, options, pixels, reference, studio
from tutti.engine.denoise import Denoise
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, InvalidRequest, OutOfMemory, StageFailed
from tutti.events import Done, Failed, ImageDone, Progress
from tutti.formats.checkpoint import open_checkpoint
from tutti.media.image import read_note
from tutti.models.drawing.denoiser import Conditions, Decoded, Denoiser, Latents
from tutti.models.drawing.flow import flow_matching
from tutti.models.drawing.patches import to_latents, to_tokens
from tutti.models.registry import find_graph
from tutti.request import Text


@pytest.mark.parametrize("family", MAKERS)
def test_the_picture_is_the_pipelines(family: str) -> None:
    ours = studio(family).draw(manner=MANNERS[family])
    theirs = np.asarray(reference(family, "pil")).astype(int)
    assert theirs.std() > 5
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("family", MAKERS)
@torch.inference_mode()
def test_the_latents_are_the_pipelines(family: str) -> None:
    made = studio(family)
    model, text = made.engine.runner.model, made.engine.encoders[0].model
    assert isinstance(model, Denoiser)
    request = made.submit("one", manner=MANNERS[family])
    made.finish()
    state = model.start(
        request, Conditions(*(text.encode(part.text) for part in request.parts if isinstance(part, Text)))
    )
    while model.progress(state)[0] < 3:
        (state,) = model.step([state])
    theirs = reference(family, "latent")
    if theirs.dim() == 2:
        theirs = to_latents(theirs, *state.tokens)
    # Latents at level 4096 are rounded to 5e-4, in the scheduler as here.
    near = 1e-3 if family == "sdxl_v" else 1e-4
    torch.testing.assert_close(state.latents, theirs, atol=near, rtol=1e-4)


@pytest.mark.parametrize("family", MAKERS)
def test_a_seed_gives_one_picture_whatever_shares_its_batches(family: str) -> None:
    made, manner = studio(family), MANNERS[family]
    alone = made.draw("a cat", manner)
    sizes = [(16, 24), (16, 24), (32, 16), (16, 24)]
    for number, (width, height) in enumerate(
        sizes
    ):  # other prompts, sizes, steps and guidance, at other times
        other = manner if number % 2 else {}
        made.submit(
            f"other {number}",
            "x" * (3 * number + 1),
            other,
            width=width,
            height=height,
            steps=2 + number,
            seed=number,
        )
        made.engine.loop.turn()
    made.submit("one", "a cat", manner)
    ends = made.finish()
    assert len(ends) == 5 and all(isinstance(end, ImageDone) for end in ends.values())
    assert np.abs(pixels(ends["one"]) - alone).max() <= 1
    assert np.abs(made.draw("a cat", manner, seed=6) - alone).max() > 8


def test_pictures_of_different_sizes_share_the_batches_of_a_model_that_packs() -> None:
    made = studio("z_image")
    for number, width in enumerate((16, 32, 48)):
        made.submit(str(number), "hello", width=width, steps=3)
    before = made.engine.loop.stats.steps["denoiser"].count
    made.finish()
    assert made.engine.loop.stats.steps["denoiser"].count - before == 3


def test_a_prompt_is_read_once() -> None:
    made = studio("z_image")
    made.draw("never seen before")
    text = made.engine.encoders[0]
    before = text.items, text.kept.hits
    made.draw("never seen before", seed=9)
    assert text.items == before[0] and text.kept.hits == before[1] + 2  # the empty negative prompt, too


def test_progress_and_previews_come_on_the_way() -> None:
    made = studio("z_image")
    made.submit("one", steps=4, previews=2)
    while made.engine.loop.turn():
        pass
    steps = [(event.done, event.total) for event in made.events if isinstance(event, Progress)]
    shown = [event.preview for event in made.events if isinstance(event, ImageDone)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert shown == [True, True, False]
    assert made.events[-1] == Done("one", "stop")
    made.finish()


def test_the_file_says_how_to_make_it_again() -> None:
    made = studio("flux_dev")
    made.submit("one", "dogs", MANNERS["flux_dev"], seed=11)
    first = made.finish()["one"]
    assert isinstance(first, ImageDone)
    note = json.loads(read_note(first.png))
    assert note["size"] == "16x24" and note["num_inference_steps"] == 3 and note["seed"] == 11
    made.submit("two", note["prompt"], note, seed=note["seed"])
    assert np.array_equal(pixels(made.finish()["two"]), pixels(first))


def test_one_step_draws_where_the_last_level_would_be_stretched_to_a_terminal_one() -> None:
    made = studio("qwen_image")
    assert made.draw(steps=1).std() > 0  # diffusers' levels are no numbers then


def test_who_leaves_at_any_step_leaves_nothing() -> None:
    made = studio("z_image")
    whole = made.draw("a cat")
    for turns in range(8):
        made.submit("leaves", "a dog", steps=4)
        made.submit("stays", "a cat")
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert np.abs(pixels(made.finish()["stays"]) - whole).max() <= 1
        made.nothing_is_left()


def test_latents_that_are_no_numbers_fail_their_request_by_name_and_no_other(tmp_path: Path) -> None:
    pipe, folder = pipeline("z_image")
    broken = shutil.copytree(folder, tmp_path / "broken")
    state = pipe.text_encoder.state_dict()
    token = pipe.tokenizer("Z").input_ids[0]
    spoilt = {name: tensor.clone() for name, tensor in state.items()}
    spoilt["embed_tokens.weight"][token] = float("nan")
    pipe.text_encoder.save_pretrained(broken / "text_encoder", state_dict=spoilt)
    made = Studio(broken)
    whole = studio("z_image").draw("a cat")
    made.submit("bad", "a Zebra", steps=3)
    made.submit("good", "a cat")
    ends = made.finish()
    assert isinstance(ends["bad"], Failed)
    error = ends["bad"].error.error()
    assert (
        isinstance(error, StageFailed)
        and error.stage == "denoiser"
        and "no numbers any more after step 1" in error.message
    )
    assert np.abs(pixels(ends["good"]) - whole).max() <= 1
    made.nothing_is_left()


@pytest.mark.parametrize(
    ("manner", "more", "message", "param"),
    [
        ({}, {"width": 18}, "multiples of 4 pixels; take 16 for 18", "size"),
        ({}, {"width": 0}, "multiples of 4 pixels; take 4 for 0", "size"),
        ({}, {"width": 10_000, "height": 10_000}, "at most 256 pixels a side", "size"),
        ({}, {"steps": 10_000}, "from 1 to 1,000, got 10000", "num_inference_steps"),
        ({}, {"steps": 0}, "from 1 to 1,000, got 0", "num_inference_steps"),
        ({"guidance_scale": float("nan")}, {}, "from 0 to 100, got nan", "guidance_scale"),
        ({"true_cfg_scale": -1.0}, {}, "from 0 to 100, got -1.0", "true_cfg_scale"),
        ({}, {"previews": 9, "decoded": True}, "from 0 to 3, got 9", "partial_images"),
        ({}, {"previews": 1001}, "from 0 to 1,000, got 1001", "previews"),
        ({}, {"prompt": " "}, "the prompt is empty", "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    manner: dict[str, Any], more: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio("z_image").submit("one", manner=manner, **more)
    assert caught.value.param == param


def test_a_prompt_longer_than_the_encoder_reads_is_refused_with_both_numbers() -> None:
    made = studio("z_image")
    made.submit("one", "x" * 600)
    end = made.finish()["one"]
    assert isinstance(end, Failed) and "and this model's text encoder takes 512" in end.error.message
    made.nothing_is_left()


def test_a_picture_that_does_not_fit_in_the_memory_is_refused_when_it_comes() -> None:
    made = Studio(pipeline("z_image")[1])
    denoise = made.engine.runner
    assert isinstance(denoise, Denoise) and denoise.largest is not None
    denoise.largest = 100
    made.submit("large", width=128, height=128)
    made.submit("small", width=16, height=16, manner={"guidance_scale": 0.0})
    ends = made.finish()
    assert isinstance(ends["large"], Failed) and "there is memory for 100" in ends["large"].error.message
    assert isinstance(ends["small"], ImageDone)


def test_the_plan_says_what_can_be_drawn_and_refuses_what_does_not_fit() -> None:
    checkpoint = open_checkpoint(pipeline("flux_dev")[1])
    graph = find_graph(checkpoint.config)
    device = torch.device("cpu")
    plan = plan_for(checkpoint, graph, options(checkpoint.path), device)
    assert plan.drawing is not None and plan.drawing.largest >= plan.drawing.tokens > 1000
    assert "tokens in a step of several pictures" in plan.text() and plan.total <= plan.budget
    with pytest.raises(OutOfMemory, match="texts and VAE"):
        plan_for(checkpoint, graph, options(checkpoint.path, 900_000_000), device)


def test_an_incomplete_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("z_image")[1], tmp_path / "cut")
    shutil.rmtree(folder / "vae")
    with pytest.raises(CheckpointError, match="names the component 'vae', and there is no such folder"):
        open_checkpoint(folder)


def test_a_shard_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("z_image")[1], tmp_path / "cut")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model"):
        open_checkpoint(folder)


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("z_image")[1], tmp_path / "foreign")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["my_code", "MyVae"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="never run"):
        Studio(folder)


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"shift": 3.0},
    {"use_dynamic_shifting": True},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"use_dynamic_shifting": True, "shift_terminal": 0.02, "max_shift": 0.9, "max_image_seq_len": 8192},
]


@pytest.mark.parametrize("settings", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_noise_levels_are_the_schedulers(settings: dict[str, Any], steps: int) -> None:
    if settings.get("shift_terminal") and steps == 1:
        return  # one step has no range to stretch: diffusers divides by zero as well
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    sampler = flow_matching(dict(scheduler.config))
    mu = sampler.size_shift(1024)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    levels = sampler.levels(steps, 1024)
    torch.testing.assert_close(levels, scheduler.sigmas, atol=0, rtol=0)
    if not settings.get("shift_terminal"):
        scheduler.set_timesteps(steps, mu=mu)
        whole = replace(sampler, whole=True).levels(steps, 1024)
        torch.testing.assert_close(whole, scheduler.sigmas, atol=1e-7, rtol=0)


@pytest.mark.parametrize("setting", ["use_karras_sigmas", "stochastic_sampling"])
def test_a_schedule_that_is_not_ours_is_refused(setting: str) -> None:
    with pytest.raises(CheckpointError, match=setting):
        flow_matching({setting: True})


def test_patches_are_diffusers_and_come_back() -> None:
    latents = torch.randn(2, 3, 4, 6)
    tokens = to_tokens(latents)
    assert torch.equal(tokens, diffusers.FluxPipeline._pack_latents(latents, 2, 3, 4, 6))
    assert torch.equal(to_latents(tokens, 2, 3), latents)


@pytest.mark.parametrize(
    ("family", "rows"), [("z_image", 80), ("qwen_image", 136)]
)  # each larger than its tile
@torch.inference_mode()
def test_a_large_picture_is_decoded_in_tiles(family: str, rows: int) -> None:
    decoder = studio(family).engine.encoders[-1].model
    latents = torch.randn(4, rows, 72, generator=torch.Generator().manual_seed(0))
    item = Decoded(Latents(latents), "")
    whole = decoder.run([item])[0].pixels.astype(int)
    tiled = type(decoder)(decoder.vae, budget=100).run([item])[0].pixels.astype(int)
    assert tiled.shape == whole.shape == (2 * rows, 144, 3)
    assert not np.array_equal(tiled, whole)  # seams are blended
    assert np.abs(tiled - whole).mean() < 10 < whole.std()
