"""Pipelines that nobody here knows: equal to themselves in the loop, one by one, and gone when nobody waits."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.models.studio import Studio, options, pixels
from tests.models.whole_pipelines import WHOLE, whole_pipeline
from tutti.engine.core import Engine
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, ConfigError, InvalidRequest
from tutti.events import Done, Failed, ImageDone, Progress
from tutti.formats.checkpoint import open_checkpoint
from tutti.media.image import read_note
from tutti.models.pipeline.signature import makes_pictures_of_text, signature
from tutti.models.registry import find_graph

GUIDED = {"guidance_scale": 3.0, "negative_prompt": "blue"}


@functools.cache
def studio(name: str) -> Studio:
    return Studio(whole_pipeline(name)[1])


def reference(name: str, prompt: str = "a red circle", **more: Any) -> np.ndarray:
    fields = {"width": 16, "height": 24, "num_inference_steps": 3, **more}
    generator = torch.Generator().manual_seed(5)
    picture = whole_pipeline(name)[0](prompt, generator=generator, **fields).images[0]
    return np.asarray(picture).astype(int)


def runs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pipeline"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("manner", [GUIDED, {}])
def test_the_picture_is_the_pipelines(name: str, manner: dict[str, Any]) -> None:
    ours = studio(name).draw(manner=manner)
    theirs = reference(name, **manner)
    assert theirs.shape == (24, 16, 3) and theirs.std() > 5
    assert np.abs(ours - theirs).max() <= 1


def test_the_habits_are_the_pipelines_own() -> None:
    made = studio("stable_diffusion")
    request = made.submit("one", steps=None, width=None, height=None)
    made.engine.loop.cancel("one")
    made.finish()
    drawing = request.drawing
    assert drawing is not None
    assert (drawing.steps, drawing.guidance, drawing.width, drawing.height) == (50, 7.5, 32, 32)


def test_one_request_is_worked_on_after_the_other_step_by_step() -> None:
    made = studio("aura_flow")
    alone = {name: made.draw(name) for name in ("a cat", "a dog")}
    made.submit("one", "a cat")
    made.engine.loop.turn()
    made.submit("two", "a dog")
    while made.engine.loop.turn():
        assert len(runs()) <= 1
    told = [event for event in made.events if isinstance(event, Progress | Done)]
    steps = [(event.request, event.done, event.total) for event in told if isinstance(event, Progress)]
    assert steps == [(name, done, 3) for name in ("one", "two") for done in (1, 2, 3)]
    ends = made.finish()
    assert np.array_equal(pixels(ends["one"]), alone["a cat"])
    assert np.array_equal(pixels(ends["two"]), alone["a dog"])


def test_steps_are_those_of_the_scheduler() -> None:
    made = studio("heun")
    made.submit("one", steps=3)
    while made.engine.loop.turn():
        pass
    steps = [(event.done, event.total) for event in made.events if isinstance(event, Progress)]
    assert steps == [(done, 5) for done in (1, 2, 3, 4, 5)]
    made.finish()


def test_who_leaves_at_any_step_leaves_nothing_and_no_thread() -> None:
    made = studio("stable_diffusion")
    whole = made.draw("a cat")
    for turns in range(7):
        made.submit("leaves", "a dog", steps=4)
        made.submit("stays", "a cat")
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("leaves")
        assert len(runs()) <= (turns > 4)  # of the one that stays
        assert np.array_equal(pixels(made.finish()["stays"]), whole)
        made.nothing_is_left()
        assert not runs()


def test_the_file_says_how_to_make_it_again() -> None:
    made = studio("stable_diffusion")
    made.submit("one", "dogs", GUIDED, seed=11)
    first = made.finish()["one"]
    assert isinstance(first, ImageDone)
    note = json.loads(read_note(first.png))
    assert note["size"] == "16x24" and note["num_inference_steps"] == 3 and note["seed"] == 11
    made.submit("two", note["prompt"], note, seed=note["seed"])
    assert np.array_equal(pixels(made.finish()["two"]), pixels(first))


@pytest.mark.parametrize(
    ("name", "manner", "more", "message", "param"),
    [
        ("stable_diffusion", {"true_cfg_scale": 2.0}, {}, "takes no true_cfg_scale", "true_cfg_scale"),
        ("stable_diffusion", {}, {"width": 17}, "multiples of 2 pixels", "size"),
        ("aura_flow", {}, {"width": 18}, "multiples of 4 pixels", "size"),
        ("stable_diffusion", {}, {"steps": 0}, "from 1 to 1,000", "num_inference_steps"),
        ("stable_diffusion", {}, {"previews": 1}, "nothing before it is done", "partial_images"),
        ("stable_diffusion", {}, {"cache": "teacache"}, "cache must be one of none", "cache"),
        ("stable_diffusion", {}, {"lora": "ink"}, "takes no LoRA adapters", "lora"),
        ("stable_diffusion", {}, {"prompt": " "}, "the prompt is empty", "prompt"),
    ],
)
def test_what_the_pipeline_does_not_take_is_refused_before_anything_is_computed(
    name: str, manner: dict[str, Any], more: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        studio(name).submit("one", manner=manner, **more)
    assert caught.value.param == param


def test_what_the_pipeline_refuses_itself_is_the_callers_fault_and_nobody_elses() -> None:
    made = studio("stable_diffusion")
    made.submit("bad", width=18)  # it takes multiples of 8
    made.submit("good", "a cat")
    ends = made.finish()
    assert isinstance(ends["bad"], Failed)
    error = ends["bad"].error.error()
    assert isinstance(error, InvalidRequest) and "have to be divisible by 8" in error.message
    assert isinstance(ends["good"], ImageDone) and not runs()
    made.nothing_is_left()


def test_the_plan_is_of_weights_and_an_estimate() -> None:
    checkpoint = open_checkpoint(whole_pipeline("stable_diffusion")[1])
    graph = find_graph(checkpoint.config)
    plan = plan_for(checkpoint, graph, options(checkpoint.path), torch.device("cpu"))
    rows = {row.name: row.bytes for row in plan.rows}
    assert graph.name == "pipeline" and graph.outputs == {"image"} and "diffusers' own" in graph.remark
    assert rows["weights"] >= checkpoint.nbytes and rows["a step"] > 0 and rows["prompt cache"] == 0


def test_weights_are_not_quantized() -> None:
    int8 = msgspec.structs.replace(options(whole_pipeline("stable_diffusion")[1]), quantization="int8")
    with pytest.raises(ConfigError, match="served as it is"):
        Engine(int8, list)


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("StableDiffusionPipeline", True),
        ("PixArtSigmaPipeline", True),
        ("SanaPipeline", True),
        ("KolorsPipeline", True),
        ("Lumina2Pipeline", True),
        ("HunyuanDiTPipeline", True),
        ("CogView4Pipeline", True),
        ("Flux2Pipeline", True),
        ("StableDiffusionImg2ImgPipeline", False),
        ("StableDiffusionControlNetPipeline", False),
        ("CogVideoXPipeline", False),
        ("TextToVideoZeroPipeline", False),
        ("AudioLDM2Pipeline", False),
        ("NoSuchPipeline", False),
        ("DDPMPipeline", False),
    ],
)
def test_what_draws_of_a_text_alone_is_told_by_the_source(name: str, draws: bool) -> None:
    assert makes_pictures_of_text(name) is draws


def test_the_signature_is_the_calls() -> None:
    import inspect

    import diffusers

    found = signature("AuraFlowPipeline")
    assert found is not None
    parameters = dict(inspect.signature(diffusers.AuraFlowPipeline.__call__).parameters)
    parameters.pop("self")
    assert list(found.parameters) == list(parameters)
    assert found.default("num_inference_steps") == parameters["num_inference_steps"].default == 50


def renamed(folder: Path, name: str, to: Path, **components: Any) -> Path:
    made = shutil.copytree(folder, to)
    index = json.loads((made / "model_index.json").read_text())
    (made / "model_index.json").write_text(json.dumps(index | {"_class_name": name} | components))
    return made


def test_other_pipelines_are_refused_by_name(tmp_path: Path) -> None:
    folder = renamed(whole_pipeline("stable_diffusion")[1], "CogVideoXPipeline", tmp_path / "video")
    with pytest.raises(CheckpointError, match="CogVideoXPipeline is not supported"):
        Engine(options(folder), list)


def test_code_that_comes_with_a_pipeline_is_never_run(tmp_path: Path) -> None:
    name = "StableDiffusionPipeline"
    folder = renamed(
        whole_pipeline("stable_diffusion")[1], name, tmp_path / "own", unet=["my_code", "MyUnet"]
    )
    (folder / "unet" / "my_code.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(CheckpointError, match="never run"):
        Engine(options(folder), list)
