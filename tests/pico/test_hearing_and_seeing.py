"""The shipped checkpoint hears and sees held-out combinations, and does so as transformers does."""

from __future__ import annotations

from random import Random

import pytest

from pico import evaluate_senses as senses
from pico.evaluate import SHIPPED
from pico.transformers_engine import TransformersEngine
from pico.tutti_engine import TuttiEngine
from tests.pico.sample import slack
from tutti import LLM


@pytest.fixture(scope="module")
def tutti() -> TuttiEngine:
    return TuttiEngine.load(SHIPPED)


@pytest.fixture(scope="module")
def marks(tutti: TuttiEngine) -> list[senses.Mark]:
    """A sample of what `python -m pico.evaluate_senses` asks."""
    return senses.examine(tutti, senses.make_examination(2026, per_kind=2))


def test_held_out_questions_are_heard_and_pictures_seen(marks: list[senses.Mark]) -> None:
    asked, shown, written = (
        senses.of_kind(marks, kind) for kind in (senses.ASKED, senses.SHOWN, senses.WRITTEN)
    )
    gate = senses.SPOKEN_GATE
    assert senses.exact(asked) >= gate - slack(gate, len(asked))
    gate = senses.PICTURE_GATE
    assert senses.exact(shown) >= gate - slack(gate, len(shown))
    gate, words = senses.WORD_GATE, sum(len(mark.question.answer.split()) for mark in written)
    assert senses.word_error(written) <= gate + slack(gate, words)


def test_with_another_recording_or_picture_answers_are_right_only_by_chance(
    tutti: TuttiEngine, marks: list[senses.Mark]
) -> None:
    asked, shown = (
        [m.question for m in senses.of_kind(marks, kind)] for kind in (senses.ASKED, senses.SHOWN)
    )
    rng = Random(0)
    assert senses.exact(senses.examine(tutti, senses.shuffled(rng, asked))) < senses.same_answers(asked) + 0.1
    guessed = senses.exact(senses.examine(tutti, senses.emptied(shown)))
    assert senses.exact(senses.examine(tutti, senses.shuffled(rng, shown))) < guessed + 0.2


def test_transformers_hears_and_sees_the_same() -> None:
    exam = Random(1).sample(senses.make_examination(7, per_kind=1), 24)
    ours = TuttiEngine(LLM(str(SHIPPED), dtype="float32"))
    theirs = TransformersEngine.load(SHIPPED)
    assert [m.given for m in senses.examine(ours, exam)] == [m.given for m in senses.examine(theirs, exam)]
