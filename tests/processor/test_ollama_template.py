"""Prompts by Ollama's templates: the texts that its documentation and its own tests give."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from tutti.errors import InvalidRequest
from tutti.models.parsers.base import ContentDelta, ToolCallDelta
from tutti.models.parsers.choose import choose_parsers
from tutti.models.processor.ollama import OllamaTemplate
from tutti.request import Chat, Insertion

SYSTEM = {"role": "system", "content": "You are a helpful assistant!"}
HELLO = {"role": "user", "content": "Hello friend!"}
HUMAN = {"role": "assistant", "content": "Hello human!"}
NAME = {"role": "user", "content": "What is your name?"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now>",
        "parameters": {
            "type": "object",
            "properties": {
                "unit": {"enum": ["C", "F"], "type": "string"},
                "city": {"type": ["string", "null"], "description": "Which & where"},
            },
            "required": ["city"],
        },
    },
}
WEATHER_TEXT = (
    '{"type":"function","function":{"name":"get_weather","description":"The weather \\u003cnow\\u003e","parameters":'
    '{"type":"object","required":["city"],"properties":{"city":{"type":["string","null"],"description":"Which '
    '\\u0026 where"},"unit":{"type":"string","enum":["C","F"]}}}}}'
)
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"unit": "C", "city": "Rome"}'}}  # fmt: skip
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}

CHATML = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
LLAMA3 = """{{- if .System }}<|start_header_id|>system<|end_header_id|>

{{ .System }}<|eot_id|>
{{- end }}
{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>
{{- end }}<|start_header_id|>assistant<|end_header_id|>

"""
MISTRAL = """{{- range $index, $_ := .Messages }}
{{- if eq .Role "user" }}
{{- if and (le (len (slice $.Messages $index)) 2) $.Tools }}[AVAILABLE_TOOLS] {{ json $.Tools }}[/AVAILABLE_TOOLS]
{{- end }}[INST] {{ if and (eq (len (slice $.Messages $index)) 1) $.System }}{{ $.System }}

{{ end }}{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }}
{{- if .Content }} {{ .Content }}</s>
{{- else if .ToolCalls }}[TOOL_CALLS] [
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ json .Function.Arguments }}}
{{- end }}]</s>
{{- end }}
{{- else if eq .Role "tool" }}[TOOL_RESULTS] {"content": {{ .Content }}}[/TOOL_RESULTS]
{{- end }}
{{- end }}"""
GEMMA = """{{ if .System }}<start_of_turn>user
{{ .System }}{{ if .Prompt }} {{ .Prompt }}{{ end }}<end_of_turn>
{{ else if .Prompt }}<start_of_turn>user
{{ .Prompt }}<end_of_turn>
{{ end }}<start_of_turn>model
{{ .Response }}<end_of_turn>
"""
PHI = """{{ if .System }}<|system|>
{{ .System }}<|end|>
{{ end }}{{ if .Prompt }}<|user|>
{{ .Prompt }}<|end|>
{{ end }}<|assistant|>
{{ .Response }}<|end|>
"""
QWEN = """{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>
{{- else if .Messages }}
{{- if or .System .Tools }}<|im_start|>system
{{- if .System }}
{{ .System }}
{{- end }}
{{- if .Tools }}
<tools>
{{- range .Tools }}
{"type": "function", "function": {{ .Function }}}
{{- end }}
</tools>
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if .Content }}{{ .Content }}
{{- else if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}{{ if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}
{{- end }}"""
CODELLAMA = "<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>"
CODESTRAL = "[SUFFIX]{{ .Suffix }}[PREFIX] {{ .Prompt }}"


def rendered(source: str, *messages: dict[str, Any], **chat: Any) -> str:
    return OllamaTemplate(source).render(Chat(messages, **chat))


def test_chatml() -> None:
    assert rendered(CHATML, SYSTEM, HELLO, HUMAN, NAME) == (
        "<|im_start|>system\nYou are a helpful assistant!<|im_end|>\n<|im_start|>user\nHello friend!<|im_end|>\n"
        "<|im_start|>assistant\nHello human!<|im_end|>\n<|im_start|>user\nWhat is your name?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama3() -> None:
    assert rendered(LLAMA3, HELLO, HUMAN, NAME) == (
        "<|start_header_id|>user<|end_header_id|>\n\nHello friend!<|eot_id|><|start_header_id|>assistant"
        "<|end_header_id|>\n\nHello human!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat is your name?"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_mistral_with_tools() -> None:
    assert rendered(MISTRAL, SYSTEM, HELLO, tools=(WEATHER,)) == (
        f"[AVAILABLE_TOOLS] [{WEATHER_TEXT}][/AVAILABLE_TOOLS][INST] You are a helpful assistant!\n\nHello friend![/INST]"
    )
    assert rendered(MISTRAL, HELLO, CALLED, RESULT) == (
        '[INST] Hello friend![/INST][TOOL_CALLS] [{"name": "get_weather", "arguments": {"city":"Rome","unit":"C"}}]</s>'
        '[TOOL_RESULTS] {"content": 21 degrees}[/TOOL_RESULTS]'
    )


def test_gemma_knows_no_messages_and_is_run_turn_by_turn() -> None:
    assert rendered(GEMMA, SYSTEM, HELLO, HUMAN, NAME) == (
        "<start_of_turn>user\nYou are a helpful assistant! Hello friend!<end_of_turn>\n<start_of_turn>model\n"
        "Hello human!<end_of_turn>\n<start_of_turn>user\nWhat is your name?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_phi_knows_no_messages_and_is_run_turn_by_turn() -> None:
    assert rendered(PHI, HELLO, HUMAN, SYSTEM, NAME) == (
        "<|user|>\nHello friend!<|end|>\n<|assistant|>\nHello human!<|end|>\n"
        "<|system|>\nYou are a helpful assistant!<|end|>\n<|user|>\nWhat is your name?<|end|>\n<|assistant|>\n"
    )


def test_qwen_with_tools() -> None:
    function = WEATHER_TEXT.removeprefix('{"type":"function","function":')[:-1]
    assert rendered(QWEN, SYSTEM, HELLO, CALLED, RESULT, tools=(WEATHER,)) == (
        '<|im_start|>system\nYou are a helpful assistant!\n<tools>\n{"type": "function", "function": '
        f"{function}}}\n</tools><|im_end|>\n<|im_start|>user\nHello friend!<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city":"Rome","unit":"C"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n21 degrees\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (CODELLAMA, "<PRE> def add( <SUF>return x <MID>"),
        (CODESTRAL, "[SUFFIX]return x[PREFIX] def add("),
        (QWEN, "<|fim_prefix|>def add(<|fim_suffix|>return x<|fim_middle|>"),
    ],
)
def test_insertions(source: str, prompt: str) -> None:
    template = OllamaTemplate(source)
    assert template.inserts
    assert template.insert(Insertion("def add(", "return x")) == prompt


@pytest.mark.parametrize(
    "source",
    [
        "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}[/INST] ",
        "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}[/INST] {{ .Response }}",
        '{{- range .Messages }}{{ if eq .Role "user" }}[INST] {{ with $.System }}{{ . }}\n\n{{ end }}{{ .Content }}[/INST] '
        '{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}',
    ],
)
def test_an_answer_that_is_begun_is_gone_on_with(source: str) -> None:
    assert rendered(source, HELLO, HUMAN, NAME, {"role": "assistant", "content": "My name is"}) == (
        "[INST] Hello friend![/INST] Hello human![INST] What is your name?[/INST] My name is"
    )


def test_messages_of_a_role_in_a_row_are_one_but_for_those_of_tools() -> None:
    source = "{{ .System }}|{{ range .Messages }}{{ .Role }}:{{ .Content }}:{{ .ToolName }};{{ end }}{{ with .Tools }}{{ end }}"
    first, second = {"role": "system", "content": "a"}, {"role": "system", "content": "b"}
    assert rendered(source, first, second, HELLO, NAME, CALLED, RESULT, RESULT) == (
        "a\n\nb|system:a\n\nb:;user:Hello friend!\n\nWhat is your name?:;assistant::;"
        "tool:21 degrees:get_weather;tool:21 degrees:get_weather;"
    )


def test_properties_can_be_gone_through() -> None:
    source = (
        "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ .Function.Name }}({{ range $name, $one := "
        ".Function.Parameters.Properties }}{{ $name }}: {{ toTypeScriptType $one }} {{ $one.Type }} {{ $one.Enum }}; "
        "{{ end }}){{ .Function.Parameters.Required }}{{ end }}"
    )
    assert rendered(source, HELLO, tools=(WEATHER,)) == (
        "get_weather(city: string | null [string null] []; unit: string string [C F]; )[city]"
    )


def test_dates() -> None:
    source = "{{ range .Messages }}{{ end }}{{ currentDate }} {{ yesterdayDate }}"
    assert rendered(source, HELLO) == f"{date.today()} {date.today() - timedelta(days=1)}"


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({}, "true medium true "),
        ({"enable_thinking": False}, "false  true "),
        ({"enable_thinking": True, "reasoning_effort": "high"}, "true high true "),
    ],
)
def test_thinking(kwargs: dict[str, Any], text: str) -> None:
    source = "{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }} {{ range .Messages }}{{ .Thinking }}{{ end }}"
    assert OllamaTemplate(source).thinks
    assert rendered(source, HELLO, template_kwargs=kwargs) == text
    assert (
        rendered(source, HELLO, {**HUMAN, "reasoning_content": "hm"}, template_kwargs=kwargs) == text + "hm"
    )


def test_the_last_message_can_be_continued() -> None:
    chat = Chat((HELLO, HUMAN), continue_final_message=True, add_generation_prompt=False)
    assert OllamaTemplate(CHATML).render(chat).endswith("<|im_start|>assistant\nHello human!")


def test_media_stand_where_the_models_own_template_would_have_them() -> None:
    template = OllamaTemplate(CHATML, {"image": "<|image|>"})
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What?"}]
    assert "user\n<|image|>What?<|im_end|>" in template.render(Chat(({"role": "user", "content": parts},)))


def test_tools_that_a_template_does_not_know_are_described_as_for_any_other() -> None:
    prompt = rendered(CHATML, HELLO, tools=(WEATHER,))
    assert "<tools>" in prompt
    assert "get_weather" in prompt


def test_a_template_that_fails_is_the_requests_error() -> None:
    with pytest.raises(InvalidRequest, match="a message has no field Nothing"):
        rendered("{{ range .Messages }}{{ .Nothing }}{{ end }}", HELLO)
    with pytest.raises(InvalidRequest, match="too many steps"):
        rendered("{{ range .Messages }}{{ range 1000000000 }}{{ end }}{{ end }}", HELLO)
    with pytest.raises(InvalidRequest, match="unclosed action"):
        OllamaTemplate("{{ range")


def test_a_long_conversation_is_within_the_budget() -> None:
    turns = [HELLO, HUMAN] * 2000
    assert len(rendered(QWEN, *turns, NAME)) > 2000 * 60


GRANITE = '{{ range .Messages }}{{ if .ToolCalls }}<|tool_call|>[{{ range .ToolCalls }}{{ . }}{{ end }}]{{ end }}{{ end }}{{ .Tools }}'  # fmt: skip
LLAMA = '{{ range .Messages }}{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}{{ end }}{{ end }}{{ .Tools }}'  # fmt: skip


@pytest.mark.parametrize(
    ("source", "parser", "answer", "content", "calls"),
    [
        (QWEN, "hermes", 'Ok <tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>', "Ok", 1),
        (MISTRAL, "mistral", '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome"}}]', "", 1),
        (GRANITE, "json", 'Ok <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}, {"name": "get_weather", "arguments": {}}]', "Ok", 2),
        (GRANITE, "json", '<|tool_call|>{"name": "get_weather", "arguments": {"city": "Rome"}}</|tool_call|>', "", 1),
        (GRANITE, "json", 'a <|tool_call|> b {"name": "get_weather"}', 'a <|tool_call|> b {"name": "get_weather"}', 0),
        (GRANITE, "json", '<|tool_call|>[{"name": "other", "arguments": {}}]', '<|tool_call|>[{"name": "other", "arguments": {}}]', 0),
        (LLAMA, "json", '{"name": "get_weather", "parameters": {"city": "Rome"}}', "", 1),
        (LLAMA, "json", 'I say {"name": "get_weather", "parameters": {}}', 'I say {"name": "get_weather", "parameters": {}}', 0),
        (LLAMA, "json", '[1, 2]', "[1, 2]", 0),
    ],
)  # fmt: skip
def test_calls_are_read_as_the_template_writes_them(
    source: str, parser: str, answer: str, content: str, calls: int
) -> None:
    choice = choose_parsers(source, traits=OllamaTemplate(source).traits)
    assert choice.tool == parser
    for size in (1, 3, len(answer)):
        reader = choice.output_parser(Chat((HELLO,), tools=(WEATHER,)), "")
        deltas = [
            delta for at in range(0, len(answer), size) for delta in reader.push(answer[at : at + size])
        ]
        deltas += reader.finish()
        assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)) == content
        assert len({delta.id for delta in deltas if isinstance(delta, ToolCallDelta)}) == calls


def test_thoughts_are_read_where_the_template_speaks_of_them_and_only_there() -> None:
    def known(token: str) -> bool:
        return True

    plain, thinking = OllamaTemplate(CHATML), OllamaTemplate("{{ range .Messages }}{{ .Thinking }}{{ end }}")
    assert choose_parsers(plain.source, traits=plain.traits, known_tokens=known).reasoning == "none"
    assert choose_parsers(thinking.source, traits=thinking.traits).reasoning == "thinking"
