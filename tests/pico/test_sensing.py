"""What pico is asked aloud and shown: one way to say it, combinations kept apart, pictures that show their scene."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico.engine import Prompt
from pico.evaluate_senses import ASKED, Mark, Question, make_examination, same_answers, word_error
from pico.gallery import NOTHING, draw_scene, make_picture
from pico.pictures import PLAIN, RGB, arrange, draw
from pico.recordings import record
from pico.scenes import random_scene, scene_of
from pico.sensing import about_picture
from pico.spoken import draw_medley, draw_spoken, spoken_words
from pico.values import LANGS, Lang, split_of
from pico.words import COLOURS, SHAPES


@pytest.mark.parametrize(
    ("text", "lang", "words"),
    [
        ("What's 7 + 5?", "en", None),
        ("What's 7 plus 12?", "en", "what's seven plus twelve"),
        ("Hello, pico!", "en", "hello pico"),
        ("3加4等于几?", "zh", "三加四等于几"),
        ("what is 300 plus 5", "en", None),
        ("what is 3 x 4", "en", None),
        ("拼写cat。", "zh", None),
    ],
)
def test_a_question_is_heard_as_words_or_is_not_spoken(text: str, lang: Lang, words: str | None) -> None:
    assert spoken_words(text, lang) == words


@pytest.mark.parametrize("lang", LANGS)
def test_spoken_questions_keep_to_their_split(lang: Lang) -> None:
    rng = Random(3)
    for split in ("train", "heldout"):
        assert all(split_of(draw_spoken(rng, lang, split).key) == split for _ in range(100))


@pytest.mark.parametrize("lang", LANGS)
def test_a_medley_is_heard_as_it_is_written(lang: Lang) -> None:
    rng = Random(6)
    for _ in range(50):
        medley = draw_medley(rng, lang)
        assert spoken_words(medley, lang) == medley


@given(st.integers())
def test_a_scene_is_told_by_its_key(seed: int) -> None:
    scene = random_scene(Random(seed))
    assert scene_of(scene.key) == scene


@given(st.integers())
def test_a_plain_picture_has_each_thing_s_colour_where_it_stands(seed: int) -> None:
    rng = Random(seed)
    scene = random_scene(rng)
    pixels = np.asarray(draw(rng, scene, PLAIN))
    for placed in arrange(rng, scene, PLAIN):
        assert tuple(pixels[round(placed.y), round(placed.x)]) == RGB[placed.thing.colour.en]


@given(st.integers())
def test_the_cells_of_a_picture_name_its_things_and_nothing_else(seed: int) -> None:
    rng = Random(seed)
    scene = random_scene(rng)
    cells = set(make_picture(rng, scene).cells.tolist()) - {NOTHING}
    assert cells == {COLOURS.index(t.colour) * len(SHAPES) + SHAPES.index(t.shape) for t in scene.things}


def test_pictures_keep_to_their_split() -> None:
    rng = Random(4)
    assert all(split_of(draw_scene(rng, "heldout").key) == "heldout" for _ in range(50))
    scene = draw_scene(rng, "heldout")
    assert about_picture(rng, scene, "en").key == scene.key


def test_a_recording_is_no_longer_than_the_ears_attend() -> None:
    rng = Random(5)
    made = [record(rng, draw_spoken(rng, lang, "train")) for lang in LANGS for _ in range(5)]
    assert all(one.mel.shape[1] <= 800 for one in made if one is not None)


def test_the_examination_is_the_same_for_the_same_seed() -> None:
    one, other = (make_examination(5, per_kind=1) for _ in range(2))
    assert [(q.kind, q.prompt.text, q.answer) for q in one] == [
        (q.kind, q.prompt.text, q.answer) for q in other
    ]


def test_word_error_counts_what_is_wrong_missing_and_too_much() -> None:
    def mark(lang: Lang, right: str, given_text: str) -> Mark:
        return Mark(Question("", "", lang, Prompt(""), right), given_text)

    assert word_error([mark("en", "one two three four", "one too four four five")]) == pytest.approx(3 / 4)
    assert word_error([mark("zh", "三加四", "三加十")]) == pytest.approx(1 / 3)


def test_chance_is_how_often_two_questions_have_one_answer() -> None:
    questions = [Question(ASKED, "", "en", Prompt(""), answer) for answer in ("a", "a", "b", "c")]
    assert same_answers(questions) == pytest.approx((4 + 1 + 1) / 16)
