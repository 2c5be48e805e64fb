"""Text into sentences while it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.gateway.composed.sentences import Sentences, seconds_of, speakable


def cut(pieces: list[str]) -> list[str]:
    sentences = Sentences()
    found = [sentence for piece in pieces for sentence in sentences.push(piece)]
    return [*found, *sentences.finish()]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Three?", ["One.", " Two!", "  Three?"]),
        ('"Why?" he said. So', ['"Why?"', " he said.", " So"]),
        ("It is 3.14, not v2.0. Yes", ["It is 3.14, not v2.0.", " Yes"]),
        ("Dr. Li and J. K. met Mr. X. at noon. Good", ["Dr. Li and J. K. met Mr. X. at noon.", " Good"]),
        ("No. That is wrong.", ["No.", " That is wrong."]),
        ("1. Take it\n2. Go", ["1. Take it\n", "2. Go"]),
        ("你好！今天天气很好。我们去公园吧？好", ["你好！", "今天天气很好。", "我们去公园吧？", "好"]),
        ("他说：“走吧。”然后", ["他说：“走吧。”", "然后"]),
        ("... well. So", ["... well.", " So"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_pauses(text: str, sentences: list[str]) -> None:
    assert cut([text]) == sentences


def test_a_sentence_is_given_as_soon_as_it_is_finished() -> None:
    sentences = Sentences()
    assert sentences.push("Hello there") == []
    assert sentences.push(".") == []  # it may be a number
    assert sentences.push(" How") == ["Hello there."]
    assert sentences.push("好。") == []  # a bracket may close
    assert sentences.push("今") == [" How好。"]


def test_long_sentences_are_cut_between_clauses_else_between_words() -> None:
    clauses = cut(["and then he went on and on and on about it, " * 20])
    assert max(map(len, clauses)) < 250 and all(one.rstrip().endswith(",") for one in clauses[:-1])
    words = cut(["word " * 300])
    assert len(words) > 1 and all(len(one) <= 410 for one in words)
    assert all(one.startswith("word") for one in words)
    assert len(cut(["x" * 1000])) > 1


@given(
    st.lists(st.text(st.sampled_from("aB1 .!?,\n\"'。！，好*")) | st.just("so many words " * 9), max_size=12)
)
def test_nothing_is_lost_and_pieces_do_not_matter(pieces: list[str]) -> None:
    assert "".join(cut(pieces)) == "".join(pieces)
    assert cut(pieces) == cut(list("".join(pieces)))


def test_nobody_says_markdown() -> None:
    assert (
        speakable("## **Bold** and [a link](http://x.y) in `code`\n- item") == "Bold and a link in code item"
    )
    assert speakable(" *** \n") == speakable("--- ...") == ""
    assert speakable("3 * 4 = 12") == "3 4 = 12"


def test_a_chinese_sentence_takes_longer_than_its_letters() -> None:
    assert seconds_of("你好你好你好你") == pytest.approx(1.5)
    assert seconds_of("fourteen chars") == pytest.approx(1.0)
