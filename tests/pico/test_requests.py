"""Requests to draw: one caption for every scene and language, held out by the scene, apart from all other answers."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from random import Random

import pytest

from pico.aloud import spoken
from pico.requests import CATEGORY, SIGN, caption, draw_request, request
from pico.scenes import Scene, Thing, scene_of
from pico.spoken import spoken_words
from pico.tokenizer import MEDIA_TOKENS
from pico.values import LANGS, Lang, Split, split_of
from pico.words import COLOURS, SHAPES
from pico.world import stream

RED_CIRCLE, BLUE_SQUARE, GREEN_STAR = (Thing(COLOURS[c], SHAPES[s]) for c, s in ((0, 0), (1, 1), (2, 3)))


@pytest.mark.parametrize(
    ("scene", "english", "chinese"),
    [
        (
            Scene("row", (RED_CIRCLE, BLUE_SQUARE), (0, 2)),
            "Here is a red circle left of a blue square.",
            "这是从左到右的红色圆形、蓝色正方形。",
        ),
        (
            Scene("column", (RED_CIRCLE, BLUE_SQUARE, GREEN_STAR), (0, 1, 2)),
            "Here is a red circle, a blue square and a green star from top to bottom.",
            "这是从上到下的红色圆形、蓝色正方形、绿色星形。",
        ),
        (Scene("spots", (RED_CIRCLE,), (2,)), "Here is a red circle in the middle.", "这是中间的红色圆形。"),
    ],
)
def test_a_scene_has_one_caption_in_each_language(scene: Scene, english: str, chinese: str) -> None:
    assert caption(scene, "en") == english
    assert caption(scene, "zh") == chinese


@pytest.mark.parametrize("lang", LANGS)
def test_different_scenes_have_different_captions_and_the_same_question_has_one_answer(lang: Lang) -> None:
    rng = Random(3)
    scenes, answers = defaultdict(set), defaultdict(set)
    for _ in range(20_000):
        one = request(rng, lang)
        scenes[one.answer].add(one.key)
        answers[one.question].add(one.answer)
    assert all(len(keys) == 1 for keys in scenes.values())
    assert all(len(given) == 1 for given in answers.values())


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_request_belongs_to_the_split_of_its_scene(split: Split) -> None:
    rng = Random(1)
    for lang in LANGS:
        for aloud in (False, True):
            one = draw_request(rng, lang, split, aloud)
            assert split_of(scene_of(one.key).key) == split
            assert not aloud or spoken_words(one.question, lang)


def test_the_sign_is_a_token_and_only_answers_to_requests_have_it() -> None:
    assert MEDIA_TOKENS["vision_bos_token"] == SIGN
    chats = list(islice(stream(5, "train"), 4000))
    drawn = [chat for chat in chats if chat.category == CATEGORY]
    assert 80 < len(drawn) < 320
    assert all(chat.answer.endswith(SIGN) for chat in drawn)
    assert not any(SIGN in chat.answer for chat in chats if chat.category != CATEGORY)


def test_other_chats_are_the_same_whether_or_not_anything_is_to_be_drawn() -> None:
    plain = list(islice(stream(5, "train", drawn=0.0), 200))
    mixed = [chat for chat in islice(stream(5, "train"), 400) if SIGN not in str(chat.messages)]
    assert set(plain[:150]) <= set(mixed)


def test_the_sign_is_not_said_aloud() -> None:
    assert spoken("Here is a red circle in the middle." + SIGN, "en") == "here is a red circle in the middle."
