"""How answers are read aloud."""

from __future__ import annotations

from itertools import islice

import pytest

from pico.aloud import language, number, spoken, words
from pico.judge.errors import distance, word_error
from pico.values import Lang
from pico.world import stream


@pytest.mark.parametrize(
    ("text", "lang", "said"),
    [
        ("7 plus 24 is 31.", "en", "seven plus twenty four is thirty one."),
        (
            "6 times 6 is 36, so Ivy has 36 cakes.",
            "en",
            "six times six is thirty six, so ivy has thirty six cakes.",
        ),
        ("b-l-i-c-k", "en", "B L I C K"),
        ("BLICK", "en", "B L I C K"),
        ("The last letter of banana is a.", "en", "the last letter of banana is A."),
        ("A red circle.", "en", "a red circle."),
        ("I am pico.", "en", "I am pico."),
        ("7192", "en", "seven one nine two"),
        ('{"colour": "red"}', "en", "colour, red"),
        ("10乘10等于100。", "zh", "十乘十等于一百."),
        ("14加20等于34。", "zh", "十四加二十等于三十四."),
        ("shoe的第一个字母是s。", "zh", "shoe的第一个字母是S."),
        ("1、2、3。", "zh", "一, 二, 三."),
    ],
)
def test_an_answer_is_read_as_words(text: str, lang: Lang, said: str) -> None:
    assert spoken(text, lang) == said


def test_everything_that_pico_answers_can_be_read() -> None:
    for chat in islice(stream("aloud", "heldout"), 400):
        said = spoken(chat.answer, language(chat.answer, chat.lang))
        assert words(said)
        assert not any(sign.isdigit() for sign in said)


def test_a_text_is_read_in_the_language_of_its_letters() -> None:
    assert language("我是pico。", "en") == "zh"
    assert language("pico", "zh") == "en"
    assert language("4500", "zh") == "zh"


def test_numbers_beyond_a_hundred_are_read_digit_by_digit() -> None:
    assert number("100", "en") == ["one", "hundred"]
    assert number("305", "zh") == ["三", "零", "五"]
    assert number("07", "en") == ["zero", "seven"]


def test_word_error_counts_changed_dropped_and_added_words() -> None:
    assert distance("a red star".split(), "a red big star".split()) == 1
    assert distance("a red star".split(), "red car".split()) == 2
    assert word_error([("a red star.", "a red star"), ("红色", "红")]) == 1 / 5
