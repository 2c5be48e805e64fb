"""A text to be read aloud becomes a prompt and a reply; a long one becomes several, cut where speech pauses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import checkpoints
from tests.models.speech_checkpoints import roomy_omni
from tutti.errors import InvalidRequest
from tutti.models.processor import load_processor
from tutti.models.processor.narrator import pieces
from tutti.request import Request, Script, Tokens

WORDS = st.text(alphabet="ab .,;!?。，\n”", max_size=300)


def words(text: str) -> list[str]:
    return "".join(text.split()).split()


@given(WORDS, st.integers(12, 600))
def test_nothing_is_lost_and_no_piece_is_too_long(text: str, context: int) -> None:
    found = pieces(text, len, context)
    assert words("".join(found)) == words(text)
    assert all(piece and len(piece) <= max(1, context // 12) for piece in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One. Two! Three?"]),
        ("This is the first one. This is the second.", ["This is the first one.", "This is the second."]),
        ("a sentence of clauses, which is long", ["a sentence of clauses,", "which is long"]),
        (
            "今天天气很好，我们去公园。明天会下雨，所以在家。",
            ["今天天气很好，我们去公园。明天会下雨，所以在家。"],
        ),
        ("words without any mark at all here", ["words without any mark", "at all here"]),
        ("x" * 60, ["x" * 25, "x" * 25, "x" * 10]),
        (" \n ", []),
    ],
)
def test_a_text_is_cut_at_sentences_then_clauses_then_words(text: str, expected: list[str]) -> None:
    assert pieces(text, len, 300) == expected


def test_a_script_becomes_a_conversation_whose_answer_is_the_text() -> None:
    processor = load_processor(roomy_omni())
    script = Script("Good morning!", "Whisper.")
    prepared = processor.prepare(Request(id="r", parts=(script,), language="English"))
    (tokens,) = prepared.parts
    assert isinstance(tokens, Tokens)
    prompt = processor.tokenizer.decode(tokens.ids)
    assert "virtual human" in prompt
    assert "aloud in English, word for word. Whisper.\n\nGood morning!" in prompt
    assert bytes(prepared.reply) == b"Good morning!"


def test_a_model_that_only_writes_refuses_a_script() -> None:
    processor = load_processor(checkpoints.cached("qwen3"))
    with pytest.raises(InvalidRequest, match="does not read texts aloud"):
        processor.prepare(Request(id="r", parts=(Script("Hello."),)))
