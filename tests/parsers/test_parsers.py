"""Answers split into content, reasoning and tool calls the same way at every split, and nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parsers.answers import Answer, parse, split
from tutti.models.parsers import OutputParser, ToolCallDelta
from tutti.models.parsers.compose import ComposedParser
from tutti.models.parsers.harmony import HarmonyParser
from tutti.models.parsers.hermes import HermesParser
from tutti.models.parsers.llama3_json import Llama3JsonParser
from tutti.models.parsers.mistral import MistralParser
from tutti.models.parsers.plain import PlainParser
from tutti.models.parsers.thinking import ThinkingParser

NAMES = ("get_weather", "f", "a.b-c")


def hermes() -> OutputParser:
    return HermesParser(lambda: "id")


def llama3() -> OutputParser:
    return Llama3JsonParser(NAMES, lambda: "id")


def mistral() -> OutputParser:
    return MistralParser(lambda: "id")


def harmony() -> OutputParser:
    return HarmonyParser(True, lambda: "id")


def thinking() -> OutputParser:
    return ThinkingParser(False)


def inside_thinking() -> OutputParser:
    return ThinkingParser(True)


def thinking_hermes() -> OutputParser:
    return ComposedParser(ThinkingParser(False), HermesParser(lambda: "id"))


PARSERS: list[Callable[[], OutputParser]] = [
    hermes, llama3, mistral, harmony, thinking, inside_thinking, thinking_hermes, PlainParser,
]  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
arguments = st.dictionaries(st.text(max_size=6), json_values, max_size=3)
calls = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)
indents = st.sampled_from([None, 2])
words = st.text('abc <>{}[]":,é红\n', max_size=12)
places = st.lists(st.integers(0, 2000), max_size=10)


def written_hermes(made, indent, before):
    blocks = (
        f"<tool_call>\n{json.dumps({'name': n, 'arguments': a}, indent=indent, ensure_ascii=False)}\n</tool_call>"
        for n, a in made
    )
    return before + "\n".join(blocks)


def written_llama3(made, indent, before):
    objects = (json.dumps({"name": n, "parameters": a}, indent=indent) for n, a in made)
    return "<|python_tag|>" * (indent is None) + "; ".join(objects)


def written_mistral(made, indent, before):
    if indent is None:
        return before + "".join(f"[TOOL_CALLS]{n}{json.dumps(a)}" for n, a in made)
    listed = [{"name": n, "arguments": a, "id": "abcdefghi"} for n, a in made]
    return before + "[TOOL_CALLS] " + json.dumps(listed, indent=indent, ensure_ascii=False)


def written_harmony(made, indent, before):
    said = f"<|channel|>commentary<|message|>{before}<|end|><|start|>assistant" if before else ""
    return said + "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>{json.dumps(a, indent=indent)}<|call|>"
        for n, a in made
    )


WRITTEN = [
    (hermes, written_hermes),
    (llama3, written_llama3),
    (mistral, written_mistral),
    (harmony, written_harmony),
]


@pytest.mark.parametrize(("make", "write"), WRITTEN)
def test_calls_come_out_well_formed_at_every_split(make, write):
    @settings(max_examples=120, deadline=None)
    @given(calls, indents, st.sampled_from(["", "I will look.", "a < b [x] {y}\n"]), places)
    def check(made, indent, before, cuts):
        text = write(made, indent, before)
        answer = parse(make, *split(text, cuts))
        assert answer.objects == [(name, values) for name, values in made]
        assert answer.reasoning == ""
        assert answer.content == ("" if make is llama3 else before.rstrip())

    check()


FRAGMENTS = [
    "<tool_call>", "</tool_call>", '{"name": "f"', ', "arguments": ', ', "parameters": ', '{"a": 1}', '{"a": "w', "}",
    "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "f", "[", "]", "<|python_tag|>", ";", "<think>", "</think>", "<|channel|>",
    "analysis", "commentary", "final", " to=functions.f", " to=python", "<|message|>", "<|end|>", "<|start|>assistant",
    "<|call|>", "<|return|>", "<", "\\", '"', "\n", " ", ",", ":", "null", "tru", "1e", "\u00a0", "红",
]  # fmt: skip


@pytest.mark.parametrize("make", PARSERS)
def test_any_text_is_read_the_same_at_every_split_and_never_fails(make):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.sampled_from(FRAGMENTS) | words, max_size=14), places)
    def check(fragments, cuts):
        text = "".join(fragments)
        whole = parse(make, text)
        assert parse(make, *split(text, cuts)) == whole == parse(make, *text)

    check()


HEADER = re.compile(
    r"(<\|start\|>|<\|channel\|>|<\|constrain\|>| to=)((?!<\|message\|>).)*<\|message\|>", re.DOTALL
)


@pytest.mark.parametrize("make", PARSERS)
def test_no_words_are_lost_in_text_that_is_nearly_a_call(make):
    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.sampled_from(FRAGMENTS), max_size=14))
    def check(fragments):
        text = "".join(f"{mark} word{index} " for index, mark in enumerate(fragments))
        everything = parse(make, *text).everything
        # The header of a harmony message and a call's id are no output.
        output = re.sub(r"\[CALL_ID\] word\d+", "", HEADER.sub("", text) if make is harmony else text)
        for word in re.findall(r"word\d+", output):
            assert word in everything

    check()


@pytest.mark.parametrize(("make", "write"), WRITTEN)
def test_arguments_stream_while_they_are_written(make, write):
    parser = make()
    text = write([("f", {"text": "x" * 200})], None, "")
    seen = [delta for sign in text for delta in parser.push(sign)]
    lengths = [len(delta.arguments) for delta in seen if isinstance(delta, ToolCallDelta)]
    assert len(lengths) > 200 and max(lengths) < 8


@pytest.mark.parametrize(("make", "write"), WRITTEN)
def test_a_call_cut_short_stays_cut_short(make, write):
    text = write([("f", {"path": "/home/someone/file"})], None, "")
    answer = parse(make, text[: text.index("/home") + 5])
    assert answer.calls == [["f", '{"path": "/home']] and answer.content == ""
    with pytest.raises(ValueError):
        assert answer.objects


class TestHermes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', [("f", {})]),
            ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [("f", {"a": 1})]),
            ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", {"a": 1})]),
            ('<tool_call>{"name": "f", "arguments": null}</tool_call>', [("f", {})]),
            ('<tool_call>{"name": "f"}</tool_call>', [("f", {})]),
            ('<tool_call>{"name": "f", "arguments": {"a": 1}}', [("f", {"a": 1})]),
            ('<tool_call>\n{"name": "f"}\n{"name": "g"}\n</tool_call>', [("f", {}), ("g", {})]),
            ('<tool_call>{"type": "function", "name": "f", "x": [1, {"y": "}"}]}</tool_call>', [("f", {})]),
            (
                '<tool_call>{"name": "f", "arguments": {"code": "a\nb\tc"}}</tool_call>',
                [("f", {"code": "a\nb\tc"})],
            ),
        ],
    )
    def test_variants_that_models_write_are_calls(self, text, expected):
        answer = parse(hermes, *text)
        assert answer.objects == expected and answer.content == ""

    @pytest.mark.parametrize(
        "text",
        [
            "<tool_call>not json</tool_call>",
            '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
            '<tool_call>{"name": "", "arguments": {}}</tool_call>',
            '<tool_call>{"arguments": {}}</tool_call>',
            '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
            '<tool_call>{"name": "f", "arguments": "not json"}</tool_call>',
            '<tool_call>{"name": "f", "arguments": nil}</tool_call>',
            '<tool_call>{"name": "f"',
            "a </tool_call> alone",
            "2 < 3 and <tool",
        ],
    )
    def test_what_is_no_call_is_content_to_the_letter(self, text):
        assert parse(hermes, *text) == Answer(content=text)

    def test_content_goes_on_behind_a_call(self):
        answer = parse(hermes, 'A.\n<tool_call>{"name": "f"}</tool_call> B. <tool_call>oops</tool_call>')
        assert answer.content == "A. B. <tool_call>oops</tool_call>" and answer.calls == [["f", "{}"]]

    def test_what_follows_an_error_inside_arguments_is_content(self):
        answer = parse(hermes, *'<tool_call>{"name": "f", "arguments": {"a": 1,, "b": 2}}</tool_call>')
        assert answer.calls == [["f", '{"a": 1,']] and answer.content == ', "b": 2}}</tool_call>'

    def test_deep_nesting_is_refused_before_it_harms(self):
        text = '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 5000
        assert parse(hermes, text).everything.count("[") == 5000


class TestLlama3Json:
    def test_only_offered_tools_are_calls(self):
        text = '{"name": "Bob", "parameters": {"age": 3}}'
        assert parse(llama3, *text) == Answer(content=text)

    @pytest.mark.parametrize("text", ["Hello {x}", '{"a": 1}', "<|python_tag|>print(1)", "", "  \n", "{"])
    def test_other_answers_are_content(self, text):
        assert parse(llama3, *text) == Answer(content=text)

    def test_text_behind_calls_is_content(self):
        answer = parse(llama3, *'{"name": "f", "parameters": {}};{"name": "f", "arguments": {"a": 2}} done')
        assert answer.objects == [("f", {}), ("f", {"a": 2})] and answer.content == " done"


class TestMistral:
    @pytest.mark.parametrize(
        "text",
        [
            '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]',
            '[TOOL_CALLS][{"arguments": {"a": 1}, "id": "abcdefghi", "name": "f"}]',
            '[TOOL_CALLS]f{"a": 1}',
            '[TOOL_CALLS]f[ARGS]{"a": 1}',
            '[TOOL_CALLS] f [CALL_ID]abcdefghi[ARGS] {"a": 1}',
        ],
    )
    def test_all_versions_of_the_syntax_are_read(self, text):
        answer = parse(mistral, *text)
        assert answer.objects == [("f", {"a": 1})] and answer.content == ""

    @pytest.mark.parametrize("text", ["[TOOL_CALLS]", "[TOOL_CALLS] f but", "[TOOL_CALLS][1, 2]", "[TOOL_"])
    def test_what_is_no_call_is_content_to_the_letter(self, text):
        assert parse(mistral, *text) == Answer(content=text)


class TestHarmony:
    def test_channels_are_told_apart(self):
        text = (
            "<|channel|>analysis<|message|>Think < hard.<|end|>"
            "<|start|>assistant<|channel|>commentary<|message|>I look it up. <|end|>"
            "<|start|>assistant<|channel|>analysis to=python code<|message|>1+1<|call|>"
            "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{} <|call|>"
            "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"
        )
        answer = parse(harmony, *text)
        assert answer.reasoning == "Think < hard.1+1"
        assert answer.content == "I look it up.Done." and answer.calls == [["f", "{}"]]

    def test_an_answer_without_channels_is_content(self):
        assert parse(harmony, *"Just text <b>.") == Answer(content="Just text <b>.")

    def test_arguments_that_are_no_object_are_content(self):
        text = "<|channel|>commentary to=functions.f<|message|>oops<|call|>"
        assert parse(harmony, *text) == Answer(content="oops")

    def test_without_tools_a_call_is_content(self):
        text = "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
        assert parse(lambda: HarmonyParser(False), *text) == Answer(content="{}")


class TestThinking:
    @pytest.mark.parametrize(
        ("make", "text", "reasoning", "content"),
        [
            (thinking, "<think>\nhm, a<b\n\nso\n</think>\n\nYes. ", "hm, a<b\n\nso", "Yes. "),
            (thinking, "\n<think>cut", "cut", ""),
            (thinking, "<think>\n\n</think>\n\nYes", "", "Yes"),
            (thinking, " Yes <think>no</think>", "", " Yes <think>no</think>"),
            (thinking, "<thin", "", "<thin"),
            (inside_thinking, "hm\n</think>\n\nYes", "hm", "Yes"),
            (inside_thinking, "<think>hm</think>Yes", "hm", "Yes"),
            (inside_thinking, "never closed </thin", "never closed </thin", ""),
        ],
    )
    def test_a_thought_comes_first(self, make, text, reasoning, content):
        assert parse(make, *text) == Answer(content=content, reasoning=reasoning)

    def test_calls_are_read_behind_a_thought_and_not_inside(self):
        call = '<tool_call>{"name": "f"}</tool_call>'
        answer = parse(thinking_hermes, *f"<think>{call}</think>\nok {call}")
        assert (answer.reasoning, answer.content, answer.calls) == (call, "ok", [["f", "{}"]])
