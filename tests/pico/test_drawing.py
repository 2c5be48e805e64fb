"""pico draws what it is asked for: held-out scenes, as the viewer sees the pictures, by transformers and diffusers."""

from __future__ import annotations

import json

import pytest
import torch

from pico.diffusers_engine import DiffusersEngine, Painted
from pico.drawing import (
    COLOUR_GATE,
    EXACT_GATE,
    PLACE_GATE,
    SHAPE_GATE,
    WRITTEN,
    Wish,
    compare,
    control,
    make_examination,
    pixels_of,
    understood,
)
from pico.engine import Prompt
from pico.evaluate import SHIPPED
from pico.requests import SIGN
from pico.tokenizer import render_prompt
from pico.values import Message
from pico.viewer.model import Viewer


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine.load(SHIPPED)


@pytest.fixture(scope="module")
def wishes() -> list[Wish]:
    """A part of the examination that `make pico-eval` gives."""
    return [wish for wish in make_examination(2026, 40) if wish.kind == WRITTEN]


@pytest.fixture(scope="module")
def drawn(engine: DiffusersEngine, wishes: list[Wish]) -> list[Painted]:
    return engine.draw([wish.prompt for wish in wishes], 2026)


def ask(engine: DiffusersEngine, question: str) -> Painted:
    return engine.draw([Prompt(render_prompt([Message("user", question)]))], 0)[0]


def test_held_out_scenes_are_drawn(wishes: list[Wish], drawn: list[Painted]) -> None:
    marks = compare(Viewer.load(), [wish.scene for wish in wishes], pixels_of(drawn))
    assert marks.colour >= COLOUR_GATE
    assert marks.shape >= SHAPE_GATE
    assert marks.place >= PLACE_GATE
    assert marks.exact >= EXACT_GATE


def test_requests_are_answered_with_the_one_caption_and_the_sign(
    wishes: list[Wish], drawn: list[Painted]
) -> None:
    assert understood(wishes, drawn) >= 0.95


def test_pictures_of_other_requests_are_right_only_by_chance(
    wishes: list[Wish], drawn: list[Painted]
) -> None:
    mixed, chance = control(Viewer.load(), wishes, drawn)
    assert mixed.exact <= chance.exact + 0.05
    assert mixed.colour <= chance.colour + 0.1 and mixed.shape <= chance.shape + 0.1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "draw a red circle left of a blue square",
            "Here is a red circle left of a blue square.",
        ),
        ("Paint a green star.", "Here is a green star in the middle."),
        ("画一个红色的圆", "这是中间的红色圆形。"),
    ],
)
def test_what_a_newcomer_asks_for_is_drawn(engine: DiffusersEngine, question: str, answer: str) -> None:
    one = ask(engine, question)
    assert one.answer == answer + SIGN
    assert one.picture is not None and one.picture.size == (64, 64)


def test_other_answers_promise_no_picture(engine: DiffusersEngine) -> None:
    one = ask(engine, "What is 7 plus 5?")
    assert one.picture is None and SIGN not in one.answer


def test_the_config_says_how_to_draw() -> None:
    config = json.loads((SHIPPED / "config.json").read_text())
    assert config["architectures"] == ["PicoForConditionalGeneration"]
    assert config["model_type"] == "qwen2_5_omni"
    assert config["drawing"] | {"steps": 0, "guidance": 0} == {
        "steps": 0, "guidance": 0, "size": 64, "sign": SIGN, "rows": 64,
    }  # fmt: skip


def test_the_same_seed_draws_the_same_picture(engine: DiffusersEngine) -> None:
    rows = torch.randn(9, 256)
    first, again, other = (engine.paint([rows], [seed])[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()
