"""The toy world: deterministic by seed, held-out combinations kept apart, answers that a few cases pin down."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico.arithmetic import addition, multiplication, subtraction
from pico.evaluate import make_examination
from pico.scene_questions import at_place, count, neighbour, where
from pico.scenes import Scene, Thing, describe
from pico.tokenizer import render_prompt
from pico.values import LANGS, Lang, Message, split_of
from pico.words import COLOURS, SHAPES
from pico.world import KINDS, draw_kind, stream

RED_CIRCLE, BLUE_SQUARE = Thing(COLOURS[0], SHAPES[0]), Thing(COLOURS[1], SHAPES[1])
PAIR = Scene("row", (RED_CIRCLE, BLUE_SQUARE), (0, 2))


def questions(messages: tuple[Message, ...]) -> str:
    """What was asked, without case, spaces and final marks."""
    return "|".join(_plain(m.content) for m in messages if m.role == "user")


def _plain(question: str) -> str:
    return re.sub(r"\s+", "", question.lower()).rstrip("?.!?。!")  # noqa: B005 (characters, not a suffix)


def test_the_same_seed_gives_the_same_world() -> None:
    assert list(islice(stream(3, "train"), 300)) == list(islice(stream(3, "train"), 300))


def test_another_seed_gives_another_world() -> None:
    assert list(islice(stream(3, "train"), 20)) != list(islice(stream(4, "train"), 20))


def test_the_examination_is_the_same_for_the_same_seed() -> None:
    assert make_examination(5, per_kind=3) == make_examination(5, per_kind=3)


def test_no_key_of_a_training_chat_is_held_out() -> None:
    assert all(split_of(key) == "train" for chat in islice(stream(1, "train"), 3000) for key in chat.keys)


def test_no_examined_prompt_occurs_in_training() -> None:
    examined = {questions(chat.prompt) for chat in make_examination(7, per_kind=25)}
    trained = set()
    for chat in islice(stream(1, "train"), 20_000):
        trained.add(questions(chat.prompt))
        trained.add(questions(tuple(m for m in chat.prompt if m.role == "user")[:1]))
    assert not examined & trained


def test_no_examined_combination_occurs_in_training() -> None:
    held_out = {chat.keys[-1] for chat in make_examination(8, per_kind=25)}
    trained = {key for chat in islice(stream(2, "train"), 20_000) for key in chat.keys}
    assert not held_out & trained


def test_the_same_prompt_has_the_same_answer_everywhere() -> None:
    answers: dict[str, str] = {}
    for chat in islice(stream(9, "train"), 20_000):
        prompt = render_prompt([m for m in chat.prompt if m.role != "system"])
        assert answers.setdefault(prompt, chat.answer) == chat.answer, prompt


@pytest.mark.parametrize("lang", LANGS)
def test_every_kind_has_prompts_in_both_splits(lang: Lang) -> None:
    rng = Random(1)
    for kind, _ in KINDS:
        for split in ("train", "heldout"):
            chat = draw_kind(rng, kind, lang, split)
            assert chat.answer
            assert chat.lang == lang


@given(st.integers(), st.sampled_from(LANGS))
def test_sums_differences_and_products_are_true(seed: int, lang: Lang) -> None:
    rng = Random(seed)
    for kind, apply in (
        (addition, lambda x, y: x + y),
        (subtraction, lambda x, y: x - y if x >= y else 0),
        (multiplication, lambda x, y: x * y),
    ):
        x, y, result = map(int, re.findall(r"\d+", kind(rng, lang).answer))
        assert apply(x, y) == result


def test_a_pair_is_described_from_left_to_right() -> None:
    assert describe(PAIR, "en") == "From left to right: a red circle and a blue square."
    assert describe(PAIR, "zh") == "从左到右:红色圆形、蓝色正方形。"


@given(st.integers(), st.sampled_from((neighbour, at_place, where, count)), st.sampled_from(LANGS))
def test_answers_about_a_pair_name_only_what_is_there_or_was_asked(
    seed: int, ask: object, lang: Lang
) -> None:
    assert callable(ask)
    question, answer = ask(Random(seed), PAIR, lang)
    for colour in COLOURS:
        assert colour[lang] not in answer or colour[lang] in describe(PAIR, lang) + question
