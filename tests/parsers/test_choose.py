"""Parsers are chosen by name or by what the template shows, and the forms demanded of answers are those they read."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import xgrammar

from tests.parsers.answers import Answer, parse
from tutti.errors import ConfigError, InvalidRequest
from tutti.models.parsers import choose_parsers
from tutti.request import Chat

TEMPLATES = {
    path.stem: path.read_text()
    for path in (Path(__file__).parents[1] / "processor/templates").glob("*.jinja")
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
)
HARMONY = "<|start|>system<|message|>...<|channel|>analysis"


@pytest.mark.parametrize(
    ("template", "tool", "reasoning"),
    [
        (TEMPLATES["chatml_tools"], "hermes", "thinking"),
        (TEMPLATES["header_ids"], "llama3_json", "none"),
        (TEMPLATES["inst"], "mistral", "none"),
        (TEMPLATES["turns_strict"], "hermes", "none"),
        (TEMPLATES["thinking_open"], "hermes", "thinking"),
        (HARMONY, "harmony", "harmony"),
        ("", "hermes", "none"),
    ],
)
def test_the_template_shows_the_syntax(template, tool, reasoning):
    choice = choose_parsers(template)
    assert (choice.tool, choice.reasoning) == (tool, reasoning)


def test_the_vocabulary_shows_thinking():
    assert choose_parsers("", known_tokens={"<think>", "</think>"}.__contains__).reasoning == "thinking"


@pytest.mark.parametrize(
    ("name", "tool"),
    [("hermes", "hermes"), ("llama3_json", "llama3_json"), ("mistral", "mistral"), ("openai", "harmony")],
)
def test_names_of_vllm_are_known(name, tool):
    assert choose_parsers("", tool=name).tool == tool
    for reasoning in ("deepseek_r1", "qwen3"):
        assert choose_parsers("", reasoning=reasoning).reasoning == "thinking"


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"--tool-call-parser: 'hermez' is not known.*hermes, .*mistral"):
        choose_parsers("", tool="hermez")
    with pytest.raises(ConfigError, match=r"--reasoning-parser.*deepseek_r1"):
        choose_parsers("", reasoning="r1")


def chat(**options) -> Chat:
    """A conversation with tools."""
    return Chat(messages=({"role": "user", "content": "x"},), tools=TOOLS, **options)


CALL = '<tool_call>{"name": "now"}</tool_call>'


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("x<|assistant|>", Answer(content="a</think>b ")),
        ("x<think>\n", Answer(content="b ", reasoning="a")),
        ("x<think>\n\n</think>\n\n", Answer(content="a</think>b ")),
        ("what is <think>? <|assistant|>", Answer(content="a</think>b ")),
    ],
)
def test_the_prompt_decides_whether_an_answer_starts_inside_a_thought(prompt, expected):
    choice = choose_parsers("", reasoning="qwen3")
    assert parse(lambda: choice.output_parser(Chat(messages=()), prompt), "a</think>b ") == expected


def test_a_thought_that_is_continued_goes_on():
    choice = choose_parsers("", reasoning="qwen3")
    for said, expected in (
        ("<think>\nfirst", Answer(content="b", reasoning="a")),
        ("<think>x</think> y", Answer(content="a</think>b")),
    ):
        final = {"role": "assistant", "content": said}
        talk = Chat(messages=(final,), add_generation_prompt=False, continue_final_message=True)
        assert parse(lambda talk=talk, said=said: choice.output_parser(talk, said), "a</think>b") == expected


def test_calls_are_read_only_where_tools_are_offered():
    choice = choose_parsers("")
    assert parse(lambda: choice.output_parser(chat(), ""), CALL).calls == [["now", "{}"]]
    for silent in (Chat(messages=()), chat(tool_choice="none")):
        assert parse(lambda silent=silent: choice.output_parser(silent, ""), CALL) == Answer(content=CALL)
    off = choose_parsers("", tool="none")
    assert parse(lambda: off.output_parser(chat(), ""), CALL) == Answer(content=CALL)


def test_marks_that_are_special_tokens_must_be_decoded():
    special = frozenset({"[TOOL_CALLS]", "<|channel|>"})
    for name, needed in (("mistral", True), ("hermes", False), ("openai", True)):
        choice = choose_parsers("", tool=name, special_tokens=special)
        assert choice.output_parser(chat(), "").needs_special_tokens is needed
    both = choose_parsers("", tool="mistral", reasoning="qwen3", special_tokens=special)
    assert both.output_parser(chat(), "").needs_special_tokens


def test_ids_fit_the_templates_that_take_them_back():
    for name, length in (("mistral", 9), ("hermes", 29)):
        parser = choose_parsers("", tool=name).output_parser(chat(), "")
        calls = "[TOOL_CALLS]now{}[TOOL_CALLS]now{}" if name == "mistral" else CALL * 2
        ids = {delta.id for delta in [*parser.push(calls), *parser.finish()]}
        assert len(ids) == 2 and {len(one) for one in ids} == {length}


@cache
def compiler() -> xgrammar.GrammarCompiler:
    """Grammars over single bytes."""
    vocabulary = [bytes([byte]) for byte in range(256)] + [b"</s>"]
    return xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[256])
    )


def allowed(form, text: str) -> bool:
    """Whether an answer of this form can be `text`, and end there."""
    matcher = xgrammar.GrammarMatcher(compiler().compile_structural_tag(json.dumps(form.structural_tag)))
    return all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)


FORMS = [
    ("hermes", "", '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', "\n"),
    ("llama3_json", "", '{"name": "now", "parameters": {}}', "; "),
    ("mistral", "[TOOL_CALLS]", "[TOOL_CALLS]now{}", ""),
    ("mistral", "[TOOL_CALLS][ARGS]", "[TOOL_CALLS]now[ARGS]{}", ""),
]


@pytest.mark.parametrize(("tool", "template", "call", "between"), FORMS)
def test_a_demanded_call_has_the_form_its_parser_reads(tool, template, call, between):
    choice = choose_parsers(template, tool=tool, reasoning="none")
    form = choice.tool_grammar(chat(tool_choice="required"), "")
    weather = call.replace("now", "get_weather").replace("{}", '{"city": "東京"}')
    for text, expected in (
        (call, [("now", {})]),
        (between.join([weather, call]), [("get_weather", {"city": "東京"}), ("now", {})]),
    ):
        assert allowed(form, text)
        assert parse(lambda: choice.output_parser(chat(), ""), *text).objects == expected
    for text in ("", "Hello", call.replace("now", "other"), call.replace("now", "get_weather")):
        assert not allowed(form, text)
    assert not allowed(
        choice.tool_grammar(chat(tool_choice="required"), "", parallel=False), call + between + call
    )


def test_a_list_of_calls_has_the_form_its_parser_reads():
    choice = choose_parsers('[TOOL_CALLS] [{"name"', reasoning="none")
    form = choice.tool_grammar(chat(tool_choice="required"), "")
    text = '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]'
    assert allowed(form, text) and len(parse(lambda: choice.output_parser(chat(), ""), text).objects) == 2


def test_a_demanded_call_may_follow_a_thought():
    harmony = choose_parsers(HARMONY)
    call = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>"
    thought = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    form = harmony.tool_grammar(chat(tool_choice="required"), "")
    for text in (call, thought + call):
        assert allowed(form, text)
        assert parse(lambda: harmony.output_parser(chat(), ""), text).objects == [("now", {})]

    hermes = choose_parsers("<think>")
    call = FORMS[0][2]
    free = hermes.tool_grammar(chat(tool_choice="required"), "<|assistant|>")
    assert allowed(free, call) and allowed(free, f"<think>\nhm\n</think>\n\n{call}")
    inside = hermes.tool_grammar(chat(tool_choice="required"), "<think>\n")
    assert allowed(inside, f"hm\n</think>\n\n{call}") and not allowed(inside, call)
    over = hermes.tool_grammar(chat(tool_choice="required"), "<think>\n\n</think>\n\n")
    assert allowed(over, call) and not allowed(over, f"<think>\nhm\n</think>\n\n{call}")


def test_a_named_tool_is_called_once():
    choice = choose_parsers("")
    form = choice.tool_grammar(chat(tool_choice={"type": "function", "function": {"name": "now"}}), "")
    call = FORMS[0][2]
    assert allowed(form, call) and not allowed(form, f"{call}\n{call}")
    assert not allowed(form, call.replace("now", "get_weather").replace("{}", '{"city": "x"}'))


def test_nothing_is_demanded_when_the_model_may_choose():
    for choice in (None, "auto", "none"):
        assert choose_parsers("").tool_grammar(chat(tool_choice=choice), "") is None


@pytest.mark.parametrize(
    ("choice", "tools", "said"),
    [
        (
            {"type": "function", "function": {"name": "other"}},
            TOOLS,
            "names 'other', which is not among the tools",
        ),
        ("required", (), '"required" needs tools'),
        ("always", TOOLS, 'must be "none", "auto", "required"'),
    ],
)
def test_a_choice_that_cannot_be_met_is_refused(choice, tools, said):
    asked = Chat(messages=(), tools=tools, tool_choice=choice)
    with pytest.raises(InvalidRequest, match=said) as refused:
        choose_parsers("").tool_grammar(asked, "")
    assert refused.value.param == "tool_choice"


def test_a_call_cannot_be_demanded_without_a_parser():
    with pytest.raises(InvalidRequest, match="--tool-call-parser none"):
        choose_parsers("", tool="none").tool_grammar(chat(tool_choice="required"), "")
