"""Go's template language: what it prints, what it may reach, and that every template comes to an end."""

from __future__ import annotations

from typing import Any

import pytest

from tutti.models.processor.gotemplate.execute import Budget, TemplateFault, execute
from tutti.models.processor.gotemplate.syntax import TemplateError, parse
from tutti.models.processor.gotemplate.values import Names, Record, as_json

DATA: dict[str, Any] = {
    "Name": "Ann",
    "Empty": "",
    "List": ["a", "b", "c"],
    "Map": {"z": 1, "a": {"deep": [1.0, True, None]}},
    "Person": Record("person", {"Role": "user", "Tags": Names(["string"])}, {"role": "user"}),
    "Number": 3,
    "Float": 0.5,
    "Nothing": None,
}


def run(source: str, data: dict[str, Any] | None = None, steps: int = 20_000, signs: int = 100_000) -> str:
    syntax = parse(source + "{{ if false }}{{ .Response }}{{ end }}")
    return execute(syntax, DATA if data is None else data, Budget(steps, signs))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a {{- .Name -}} b", "aAnnb"),
        ("{{/* a comment */}}x", "x"),
        ("{{ .Missing }}", "<no value>"),
        ("{{ if .Missing }}y{{ else if .Name }}n{{ else }}e{{ end }}", "n"),
        ("{{ with .Name }}{{ . }}{{ else }}none{{ end }}", "Ann"),
        ("{{ with .Empty }}{{ . }}{{ else }}none{{ end }}", "none"),
        ("{{ range $i, $x := .List }}{{ if $i }},{{ end }}{{ $x }}{{ end }}", "a,b,c"),
        ("{{ range .List }}{{ if eq . \"b\" }}{{ continue }}{{ end }}{{ . }}{{ end }}", "ac"),
        ("{{ range .List }}{{ . }}{{ break }}{{ end }}", "a"),
        ("{{ range .Nothing }}x{{ else }}none{{ end }}", "none"),
        ("{{ range $k, $v := .Map }}{{ $k }} {{ end }}", "a z "),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ $x := 1 }}{{ if .Name }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if .Name }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ range $i, $_ := .List }}{{ $last := eq (len (slice $.List $i)) 1 }}{{ $last }} {{ end }}", "false false true "),
        ("{{ define \"x\" }}<{{ .Role }}>{{ end }}{{ template \"x\" .Person }}", "<user>"),
        ("{{ block \"x\" .Person }}[{{ .Role }}]{{ end }}", "[user]"),
        ("{{ .List }} {{ .Map }} {{ .Person }}", '[a b c] {"z":1,"a":{"deep":[1,true,null]}} {"role":"user"}'),
        ("{{ json .List }} {{ json \"<&\" }}", '["a","b","c"] "\\u003c\\u0026"'),
        ("{{ .Person.Tags }} {{ len .Person.Tags }}", "string 1"),
        ("{{ .Float }} {{ 1.0 }} {{ 1e30 }} {{ 0x10 }} {{ 'a' }} {{ true }}", "0.5 1 1e+30 16 97 true"),
        ("{{ and .Name .Empty .Missing.Deeper }}|{{ or .Empty .Name .Missing.Deeper }}", "|Ann"),
        ("{{ not .Empty }} {{ ne .Name \"Bob\" }} {{ eq .Name \"Bob\" \"Ann\" }}", "true true true"),
        ("{{ lt 1 2 }} {{ ge .Float 0.5 }} {{ gt \"b\" \"a\" }}", "true true true"),
        ("{{ index .List 1 }} {{ index .Map \"a\" \"deep\" 0 }}", "b 1"),
        ("{{ slice .Name 1 }} {{ len \"é\" }} {{ .Name | len | printf \"%03d\" }}", "nn 2 003"),
        ("{{ len (printf \"a%*s\" .Number \"\") }} {{ printf \"%-5s|%5.1f|%q|%v|%%\" \"a\" 2.25 \"b\" .List }}", '4 a    |  2.2|"b"|[a b c]|%'),
        ("{{ print 1 2 \"a\" 3 }} {{ println 1 2 }}", "1 2a3 1 2\n"),
    ],
)  # fmt: skip
def test_the_language_is_gos(source: str, text: str) -> None:
    assert run(source) == text


def test_json_is_written_as_go_writes_it() -> None:
    assert as_json({"a": 21.0, "b": [0.5, "\u2028"], "c": None}) == '{"a":21,"b":[0.5,"\\u2028"],"c":null}'


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ .Name.upper }}", "a text has no field upper"),
        ("{{ .Name.__class__ }}", "a text has no field __class__"),
        ("{{ .List.append }}", "a list has no field append"),
        ("{{ .Person.fields }}", "a person has no field fields"),
        ("{{ .Person.__init__ }}", "a person has no field __init__"),
        ("{{ .Map.items }}{{ .Map.items.x }}", "nothing has no field x"),
        ("{{ (index .List 0).join }}", "a text has no field join"),
        ("{{ call .Name }}", "call is not for prompts"),
        ("{{ index .List 9 }}", "index out of range: 9"),
        ("{{ slice .List 2 9 }}", "out of range"),
        ("{{ eq .Name 1 }}", "incompatible types"),
        ("{{ lt .List .List }}", "a list cannot be compared"),
        ("{{ len 3 }}", "len of a number"),
        ("{{ not }}", "not does not take 0 arguments"),
        ("{{ range .Name }}{{ end }}", "range cannot go over a text"),
        ("one\ntwo {{ .Name.x }}", "line 2"),
    ],
)
def test_a_template_reaches_nothing_but_its_values(source: str, words: str) -> None:
    with pytest.raises(TemplateFault, match=words.replace("a nothing", "nothing")):
        run(source)


DOUBLING = "".join(f'{{{{ define "{n}" }}}}{{{{ template "{n + 1}" }}}}{{{{ template "{n + 1}" }}}}{{{{ end }}}}' for n in range(60))  # fmt: skip


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ range 1000000000 }}{{ end }}", "too many steps"),
        ("{{ range 1000000000 }}text{{ end }}", "too"),
        (f'{DOUBLING}{{{{ define "60" }}}}{{{{ end }}}}{{{{ template "0" }}}}', "too many steps"),
        ('{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}', "more than 100 deep"),
        ('{{ $x := "ab" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}', "grew too long"),
        ('{{ $x := "\\"" }}{{ range 100 }}{{ $x = json $x }}{{ end }}', "grew too long"),
        ('{{ printf "%1000000000d" 1 }}', "go up to 100,000"),
        ('{{ range 1000 }}{{ printf "%99999d" 1 }}{{ end }}', "grew too long"),
        ("{{ range $.List }}{{ range $.List }}{{ range 5000 }}{{ end }}{{ end }}{{ end }}", "too many steps"),
    ],
)
def test_a_template_that_loops_or_explodes_ends_with_an_error(source: str, words: str) -> None:
    with pytest.raises(TemplateFault, match=words):
        run(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ .Name", "unclosed action"),
        ("{{ if .Name }}x", "unexpected EOF"),
        ("{{ nosuch .Name }}", "not defined"),
        ("{{ $x }}", "undefined variable"),
        ('{{ template "x" }}', "undefined template"),
        ("{{" + "(" * 500 + "1" + ")" * 500 + "}}", "nesting limit"),
        ("{{ if 1 }}" * 500 + "{{ end }}" * 500, "nesting limit"),
        ("{{ if .A }}x" + "{{ else if .B }}y" * 3000 + "{{ end }}", "nested too deeply"),
        ("x" * 600_000, "size limit"),
    ],
)
def test_what_is_no_template_is_told(source: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        parse(source)


def test_the_variables_are_those_of_all_its_parts() -> None:
    source = (
        '{{ define "x" }}{{ .Tools }}{{ end }}{{ range $i, $m := .Messages }}{{ ($m.Content).Deep }}{{ end }}'
    )
    assert parse(source).variables == {"tools", "messages", "$i", "$m", "content", "deep"}


def test_a_template_without_a_response_has_one_at_its_end() -> None:
    syntax = parse("{{ .Prompt }}: ")
    assert execute(syntax, {"Prompt": "a", "Response": "b"}, Budget(100, 100)) == "a: b"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ .Prompt }}>{{ .Response }}<end>{{ .Prompt }}", "p>"),
        ("{{ .Prompt }}{{ if .Prompt }}>{{ .Response }}<end>{{ else }}x{{ end }}y", "p>"),
        ("{{ if .Response }}{{ .Response }}<end>{{ end }}{{ .Prompt }}", ""),
    ],
)
def test_an_answer_begins_at_the_first_response(source: str, text: str) -> None:
    assert execute(parse(source).before_answer, {"Prompt": "p", "Response": ""}, Budget(100, 100)) == text


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ('{{ range .Messages }}{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{"name"{{ end }}{{ end }}{{ end }}', "<tool_call>"),
        ('{{ range .Messages }}{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": {{ end }}{{ end }}{{ end }}', ""),
        ('{{ range .Messages }}{{ if .Content }}{{ .Content }}{{ else if .ToolCalls }}functools[{{ range .ToolCalls }}{{ . }}{{ end }}]{{ end }}{{ end }}', "functools["),
        ('{{ range .Messages }}{{ .Content }}{{ end }}', ""),
    ],
)  # fmt: skip
def test_the_mark_of_tool_calls_is_read_off_the_template(source: str, tag: str) -> None:
    assert parse(source).call_tag == tag


def test_the_marks_of_thoughts_are_read_off_the_template() -> None:
    source = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>\n{{ end }}{{ .Content }}{{ end }}"
    assert parse(source).thought_tags == ("<think>", "</think>")
    assert parse("{{ range .Messages }}{{ .Content }}{{ end }}").thought_tags == ("", "")
