"""A model that reads, hears, sees, writes, speaks and draws: its pictures are what diffusers draws of its words."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers

from tests.models import unified_checkpoints as unified
from tests.models.checkpoints import EOS
from tests.models.studio import pixels
from tests.models.test_omni import TONE, wav
from tutti.engine.autoregress import Autoregress
from tutti.engine.core import Engine
from tutti.engine.denoise import Denoise
from tutti.engine.planning import sketch_plan
from tutti.errors import CheckpointError, InvalidRequest
from tutti.events import AudioDelta, Done, Event, Failed, ImageDone, Progress, TextDelta, Usage
from tutti.formats.checkpoint import open_checkpoint
from tutti.gateway.opening import processor_of
from tutti.media.image import read_note
from tutti.models.drawing.denoiser import Denoiser
from tutti.models.processor.drawer import drawing_request
from tutti.models.registry import find_graph
from tutti.request import Chat, Drawing, Media, Request, SamplingParams, Tokens
from tutti.settings import EngineOptions

GREEDY = SamplingParams(temperature=0.0, max_tokens=24, seed=5)
CODES = {"talker": SamplingParams(temperature=0.0, max_tokens=12)}
ASKED = "draw a dot"


class Studio:
    """An engine in this thread, and what it answers."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.events: list[Event] = []
        defaults: dict[str, Any] = {"dtype": "float32", "device": "cpu", "memory": 3 * 10**9, "block_size": 8}
        self.options = EngineOptions(model=str(folder), threads=1, **(defaults | options))
        self.engine = Engine(self.options, self.events.extend)
        self.processor = processor_of(self.options)

    def submit(self, name: str, said: str = ASKED, *modalities: str, **more: Any) -> Request:
        fields: dict[str, Any] = {"sampling": GREEDY, "stage_sampling": CODES, **more}
        drawing = fields.pop("drawing", None)
        media = fields.pop("media", ())
        content: Any = said
        if media:
            content = [*({"type": one.modality} for one in media), {"type": "text", "text": said}]
        parts = (Chat(({"role": "user", "content": content},)), *media, *([drawing] if drawing else []))
        asked = Request(id=name, parts=parts, modalities=modalities or ("text", "image"), **fields)
        request = self.processor.prepare(asked)
        self.engine.loop.submit(request)
        return request

    def finish(self) -> list[Event]:
        """Work until all that was asked has ended; what was told."""
        self.engine.loop.run_until(lambda: not self.engine.loop._routes)
        told, self.events[:] = list(self.events), []
        return told

    def ask(self, said: str = ASKED, *modalities: str, **more: Any) -> list[Event]:
        self.submit("one", said, *modalities, **more)
        return self.finish()

    def nothing_is_left(self) -> None:
        assert self.engine.loop.turn() is False and not self.engine.loop._routes
        for runner in self.engine.loop.runners.values():
            assert runner.waiting == 0
            if isinstance(runner, Autoregress):
                runner.cache.check()
                assert runner.cache.usage == 0
            if isinstance(runner, Denoise):
                assert runner.running == 0 and not any(name in runner for name in ("one", "two"))

    @property
    def painter(self) -> Denoise:
        assert self.engine.painter is not None
        return self.engine.painter


WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "without a prefix cache": {"enable_prefix_caching": False},
}


@functools.cache
def studio(way: str = "as it comes") -> Studio:
    return Studio(unified.drawing(), **WAYS[way])


def text_of(events: list[Event], name: str = "one") -> list[int]:
    return [
        token
        for event in events
        if isinstance(event, TextDelta) and event.request == name
        for token in event.tokens
    ]


def pictures(events: list[Event], name: str = "one") -> list[np.ndarray]:
    return [
        pixels(event)
        for event in events
        if isinstance(event, ImageDone) and event.request == name and not event.preview
    ]


@functools.cache
def thinker() -> Any:
    model = transformers.Qwen2_5OmniForConditionalGeneration.from_pretrained(
        unified.drawing(), dtype=torch.float32
    )
    return model.eval().thinker


@torch.inference_mode()
def theirs(request: Request, guidance: float = unified.GUIDANCE, seed: int = 5, rows: int = 8) -> np.ndarray:
    """What transformers' thinker and diffusers' pipeline make of a prompt of text."""
    (prompt,) = [list(part.ids) for part in request.parts if isinstance(part, Tokens)]
    answer = list(unified.SAYS.encode())
    ids = torch.tensor([prompt + answer])
    states = thinker().model(input_ids=ids).last_hidden_state[0, len(prompt) :][:rows]
    drawn = unified.pipeline()(
        prompt_embeds=[states],
        negative_prompt_embeds=[torch.zeros(1, states.shape[1])],
        guidance_scale=guidance,
        num_inference_steps=unified.STEPS,
        width=unified.SIZE,
        height=unified.SIZE,
        generator=torch.Generator().manual_seed(seed),
        output_type="pil",
    )
    return np.asarray(drawn.images[0]).astype(int)


@pytest.mark.parametrize("way", WAYS)
def test_the_picture_is_the_pipelines_of_the_thinkers_states(way: str) -> None:
    made = studio(way)
    request = made.submit("one")
    events = made.finish()
    assert text_of(events) == [*unified.SAYS.encode(), unified.SIGN, EOS]
    (ours,) = pictures(events)
    expected = theirs(request)
    assert expected.std() > 5
    assert np.abs(ours - expected).max() <= 1
    made.nothing_is_left()


def test_what_was_said_before_is_in_the_picture_and_the_seed_decides() -> None:
    made = studio()
    first = pictures(made.ask(ASKED))[0]
    again = pictures(made.ask(ASKED))[0]
    other = pictures(made.ask("draw something else altogether"))[0]
    seeded = pictures(made.ask(ASKED, sampling=msgspec.structs.replace(GREEDY, seed=6)))[0]
    assert (first == again).all()
    assert np.abs(first - other).max() > 1 and np.abs(first - seeded).max() > 10


def test_together_with_others_a_picture_is_the_same_as_alone() -> None:
    made = studio()
    alone = {said: pictures(made.ask(said))[0] for said in ("draw a", "draw a lot of dots", "dots")}
    for said in alone:
        made.submit(said, said)
    made.submit("text", "draw a", "text")
    made.submit("spoken", "draw a", "text", "audio")
    events = made.finish()
    for said, picture in alone.items():
        assert np.abs(pictures(events, said)[0] - picture).max() <= 1
    assert not pictures(events, "text") and not pictures(events, "spoken")
    made.nothing_is_left()


def test_text_sound_and_picture_come_together() -> None:
    made = studio()
    spoken = made.ask(ASKED, "text", "audio")
    drawn = made.ask(ASKED)
    both = made.ask(ASKED, "text", "audio", "image")
    sounds = [
        b"".join(event.pcm for event in events if isinstance(event, AudioDelta)) for events in (spoken, both)
    ]
    assert sounds[0] and sounds[0] == sounds[1]
    assert np.abs(pictures(both)[0] - pictures(drawn)[0]).max() <= 1
    assert text_of(both) == text_of(spoken)
    assert [type(event) for event in both].count(Done) == 1 and isinstance(both[-1], Done)
    made.nothing_is_left()


def test_it_draws_what_it_is_asked_aloud() -> None:
    made = studio()
    media = (Media("audio", wav(TONE)),)
    events = made.ask("", "text", "image", media=media)
    assert len(pictures(events)) == 1
    assert np.abs(pictures(events)[0] - pictures(made.ask(ASKED))[0]).max() > 1


def test_who_wants_text_alone_gets_it_without_the_painter() -> None:
    made = studio()
    steps = made.engine.loop.stats.steps
    before = steps["denoiser"].count, steps["vae"].count
    events = made.ask(ASKED, "text")
    assert text_of(events) == [*unified.SAYS.encode(), unified.SIGN, EOS] and not pictures(events)
    assert (steps["denoiser"].count, steps["vae"].count) == before


def test_the_prompt_comes_from_the_prefix_cache_since_the_painter_looks_at_the_answer_alone() -> None:
    made = studio()
    long = "draw a dot, " * 6
    fresh = made.ask(long)
    again = made.ask(long)
    cached = [event.cached_tokens for event in (*fresh, *again) if isinstance(event, Usage)]
    assert cached[0] < cached[1] and cached[1] >= 40
    assert np.abs(pictures(fresh)[0] - pictures(again)[0]).max() <= 1


def test_an_answer_without_the_sign_ends_with_its_text() -> None:
    made = Studio(unified.refusing())
    for modalities in (("text", "image"), ("text", "audio", "image")):
        events = made.ask(ASKED, *modalities)
        assert text_of(events) == [*unified.SAYS.encode(), EOS]
        assert not any(isinstance(event, ImageDone | Progress | Failed) for event in events)
        assert isinstance(events[-1], Done) and events[-1].reason == "stop"
        assert any(isinstance(event, AudioDelta) for event in events) == ("audio" in modalities)
    assert [type(event) for event in made.ask(ASKED, "image")] == [Usage, Done]
    made.nothing_is_left()


def test_an_answer_that_is_cut_before_the_sign_has_no_picture() -> None:
    made = studio()
    events = made.ask(ASKED, sampling=msgspec.structs.replace(GREEDY, max_tokens=3))
    assert len(text_of(events)) == 3 and not pictures(events)
    assert isinstance(events[-1], Done) and events[-1].reason == "length"
    made.nothing_is_left()


def test_who_leaves_at_any_turn_leaves_nothing() -> None:
    made = studio()
    for turns in range(1, 22, 2):
        made.submit("one", ASKED, "text", "audio", "image")
        for _ in range(turns):
            made.engine.loop.turn()
        made.engine.loop.cancel("one")
        made.events.clear()
        made.nothing_is_left()


def test_more_pictures_than_there_is_room_for_wait_and_all_are_drawn() -> None:
    made = studio()
    rooms, made.painter.max_requests = made.painter.max_requests, 1
    try:
        for number in range(4):
            made.submit(str(number), "draw " + "a" * number)
        events = made.finish()
    finally:
        made.painter.max_requests = rooms
    assert all(len(pictures(events, str(number))) == 1 for number in range(4))
    made.nothing_is_left()


def test_the_first_picture_has_the_painter_built_and_text_does_not_wait_for_it() -> None:
    made = Studio(unified.drawing())
    made.ask(ASKED, "text")
    assert not made.painter._model.settled  # type: ignore[union-attr]
    assert len(pictures(made.ask())) == 1
    assert isinstance(made.painter.model, Denoiser)


def test_a_painter_that_cannot_be_loaded_fails_its_requests_and_no_others(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(unified.drawing(), folder)
    settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    settings["use_karras_sigmas"] = True
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    made = Studio(folder)
    (failed,) = [event for event in made.ask() if isinstance(event, Failed)]
    assert failed.error.kind == "CheckpointError" and "use_karras_sigmas" in failed.error.message
    assert text_of(made.ask(ASKED, "text"))
    made.nothing_is_left()


def test_a_request_for_a_picture_becomes_words(caplog: pytest.LogCaptureFixture) -> None:
    made = studio()
    asked = drawing_request("a dot", None, Drawing(steps=2, guidance=0.0), id="one", seed=3)
    request = made.processor.prepare(asked)
    made.engine.loop.submit(request)
    events = made.finish()
    (done,) = [event for event in events if isinstance(event, ImageDone)]
    assert text_of(events)  # so that the door can tell what came instead
    note = json.loads(read_note(done.png) or "{}")
    assert note == {
        "prompt": "a dot", "size": "24x24", "num_inference_steps": 2, "guidance_scale": 0.0, "seed": 3
    }  # fmt: skip
    prompt = made.processor.tokenizer.decode(list(request.parts[0].ids))  # type: ignore[union-attr]
    assert "draw a dot" in prompt
    unguided = theirs_of(request)
    assert np.abs(pixels(done) - unguided).max() <= 1


def theirs_of(request: Request) -> np.ndarray:
    steps, unified.STEPS = unified.STEPS, 2
    try:
        return theirs(request, guidance=0.0, seed=3)
    finally:
        unified.STEPS = steps


@pytest.mark.parametrize(
    ("drawing", "said"),
    [
        (Drawing(width=48), "at most 24 pixels a side"),
        (Drawing(width=10), "multiples of 4"),
        (Drawing(steps=0), "num_inference_steps must be from 1"),
        (Drawing(strength=0.5), "draws what it is told"),
        (Drawing(frames=9), "num_frames is for models that film"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(drawing: Drawing, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        studio().submit("one", drawing=drawing)


def test_what_a_unified_model_cannot_be_told_is_refused() -> None:
    prepare = studio().processor.prepare
    with pytest.raises(InvalidRequest, match="say in the prompt what is to be avoided"):
        prepare(drawing_request("a", "b", Drawing(), id="one"))
    with pytest.raises(InvalidRequest, match="changes no pictures"):
        prepare(drawing_request("a", None, Drawing(), id="one", media=[Media("image", b"")]))


def test_a_request_that_is_prepared_stays_as_it_is() -> None:
    prepare = studio().processor.prepare
    chat = Request(
        id="one", parts=(Chat(({"role": "user", "content": "hi"},)),), modalities=("text", "image")
    )
    once = prepare(chat)
    assert prepare(once) == once and once.drawing is not None and once.drawing.prompt == "hi"
    assert prepare(msgspec.structs.replace(once, modalities=("text",))).drawing is None


def test_the_plan_has_room_for_both_and_the_weights_of_both() -> None:
    checkpoint = open_checkpoint(unified.drawing())
    assert {name.split(".")[0] for name in checkpoint.tensors} >= {"thinker", "talker", "transformer", "vae"}
    graph = find_graph(checkpoint.config)
    options = EngineOptions(model=str(unified.drawing()), memory=2 * 10**9)
    plan = sketch_plan(checkpoint, graph, options, torch.device("cpu"), available=8 * 10**9)
    assert plan.fits and plan.drawing is not None and plan.kv_tokens > 0
    assert plan.drawing.tokens >= 2 * (36 + 32) and plan.drawing.requests > 1
    assert {"KV cache", "KV of talker", "pictures", "a step", "libraries"} <= {row.name for row in plan.rows}
    assert "KV cache" in plan.text() and "drawing:" in plan.text()


def test_a_tokenizer_without_the_sign_is_refused(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "without"
    shutil.copytree(unified.drawing(), folder)
    config = json.loads((folder / "config.json").read_text())
    config["drawing"]["sign"] = "<|nothing|>"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="the sign of a picture"):
        Studio(folder)
