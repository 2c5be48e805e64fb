"""From text to OpenAI's message, streamed and whole."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.api.openai.message import MessageBuilder, MessageStream
from tutti.models.parsers.base import OutputParser
from tutti.models.parsers.hermes import HermesParser
from tutti.models.parsers.plain import PlainParser

CALLS = (
    'I will look.<tool_call>\n{"name": "look", "arguments": {"where": "up, \\"there\\""}}\n</tool_call>\n'
    '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>'
)


def deltas(stream: MessageStream, *pieces: str) -> list[dict[str, Any]]:
    """What a client reads."""
    found = [delta for piece in pieces for delta in stream.push(piece)] + stream.finish()
    return [json.loads(msgspec.json.encode(delta)) for delta in found]


def message(stream: MessageStream, *pieces: str) -> dict[str, Any]:
    """The same, whole."""
    builder = MessageBuilder()
    for piece in pieces:
        builder.add(stream.push(piece))
    builder.add(stream.finish())
    made: dict[str, Any] = json.loads(msgspec.json.encode(builder.message("assistant")))
    return made


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % len(text) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("parser", [None, PlainParser()])
def test_plain_text_is_content(parser: OutputParser | None) -> None:
    assert deltas(MessageStream(parser), "a", "", "b") == [{"content": "a"}, {"content": "b"}]
    assert message(MessageStream(parser), "a", "b") == {"role": "assistant", "content": "ab", "refusal": None}


def test_a_whole_message_has_its_calls_as_openai_writes_them() -> None:
    stream = MessageStream(HermesParser())
    made = message(stream, CALLS)
    first, second = made["tool_calls"]
    assert made["content"].strip() == "I will look."
    assert first["type"] == second["type"] == "function"
    assert first["function"]["name"] == "look"
    assert json.loads(first["function"]["arguments"]) == {"where": 'up, "there"'}
    assert second["function"] == {"name": "wait", "arguments": "{}"}
    assert first["id"] != second["id"]
    assert "index" not in first
    assert stream.finish_reason("stop", named=False) == "tool_calls"
    assert stream.finish_reason("stop", named=True) == "stop"
    assert stream.finish_reason("length", named=False) == "length"


def test_calls_without_words_have_null_content() -> None:
    assert message(MessageStream(HermesParser()), CALLS.removeprefix("I will look."))["content"] is None


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_a_stream_of_any_split_joins_to_the_same_calls(cuts: list[int]) -> None:
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for delta in deltas(MessageStream(HermesParser()), *split(CALLS, cuts)):
        for call in delta.get("tool_calls", ()):
            function = call["function"]
            if call["index"] in names:  # id, type and name come once, with the first piece
                assert set(call) == {"index", "function"}
                assert set(function) == {"arguments"}
            else:
                assert call["id"] and call["type"] == "function"
                names[call["index"]] = function["name"]
            arguments[call["index"]] = arguments.get(call["index"], "") + function["arguments"]
    assert names == {0: "look", 1: "wait"}
    assert [json.loads(text) for text in arguments.values()] == [{"where": 'up, "there"'}, {}]


def test_without_parallel_calls_only_the_first_is_told() -> None:
    made = message(MessageStream(HermesParser(), parallel_calls=False), CALLS)
    assert [call["function"]["name"] for call in made["tool_calls"]] == ["look"]
