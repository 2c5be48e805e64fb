"""Modelfiles: the grammar, the messages of errors, and that what is printed reads the same."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import ModelfileError
from tutti.hub.modelfile import COMMANDS, Command, Modelfile, read_modelfile

WHOLE = '''
# a comment
from llama3.2   
  FROM ./mmproj.gguf
PARAMETER temperature 0.7
parameter stop "<|im_end|>"
PARAMETER stop  a b 
PARAMETER num_ctx 4096
PARAMETER use_mmap false
TEMPLATE """{{ .System }}
# no comment
{{ .Prompt }}"""
SYSTEM "one
two"
ADAPTER ./lora.gguf
LICENSE """
MIT
"""
MESSAGE user Who are you?
MESSAGE assistant """I "am" Mario."""
RENDERER qwen3
PARSER qwen3
REQUIRES 0.14.0
'''  # noqa: W291


def said(modelfile: Modelfile) -> list[tuple[str, str, str]]:
    return [(command.name, command.argument, command.value) for command in modelfile.commands]


def test_every_command_is_read() -> None:
    modelfile = read_modelfile(WHOLE)
    assert said(modelfile) == [
        ("from", "", "llama3.2"),
        ("from", "", "./mmproj.gguf"),
        ("parameter", "temperature", "0.7"),
        ("parameter", "stop", "<|im_end|>"),
        ("parameter", "stop", "a b"),
        ("parameter", "num_ctx", "4096"),
        ("parameter", "use_mmap", "false"),
        ("template", "", "{{ .System }}\n# no comment\n{{ .Prompt }}"),
        ("system", "", "one\ntwo"),
        ("adapter", "", "./lora.gguf"),
        ("license", "", "\nMIT\n"),
        ("message", "user", "Who are you?"),
        ("message", "assistant", 'I "am" Mario.'),
        ("renderer", "", "qwen3"),
        ("parser", "", "qwen3"),
        ("requires", "", "0.14.0"),
    ]
    assert modelfile.parameters() == {
        "temperature": 0.7,
        "stop": ["<|im_end|>", "a b"],
        "num_ctx": 4096,
        "use_mmap": False,
    }
    assert modelfile.commands[7].line == 10


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marked_encodings_and_windows_line_ends_are_read(encoding: str) -> None:
    data = 'FROM x\r\nSYSTEM """é\r\nü"""\r\n'.encode(encoding)
    assert said(read_modelfile(data)) == [("from", "", "x"), ("system", "", "é\nü")]


LISTED = (
    '"from", "license", "template", "system", "adapter", "renderer", "parser", "parameter", "message", '
    'or "requires"'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM line"),
        ("# only a comment\nSYSTEM x\n", "no FROM line"),
        ("FROM x\n\nFORM y\n", f"(line 3): command must be one of {LISTED}"),
        ("FROM\n", "(line 1): unexpected EOF"),
        ('FROM x\nSYSTEM """never ends\n\n', "(line 2): unexpected EOF"),
        ('FROM x\nSYSTEM "', "(line 2): unexpected EOF"),
        ("FROM x\nPARAMETER\n", "(line 2): unexpected EOF"),
        ("FROM x\nPARAMETER temperature\n", "(line 2): unexpected EOF"),
        (
            "FROM x\nMESSAGE robot hi\n",
            '(line 2): message role must be one of "system", "user", or "assistant"',
        ),
        (b"FROM x\nSYSTEM \xff\n", "(line 2): this is no UTF-8 text"),
    ],
)
def test_an_error_names_the_line(text: str | bytes, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        read_modelfile(text)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PARAMETER nosuch 1", "(line 2): unknown parameter 'nosuch'"),
        ("PARAMETER num_ctx many", "(line 2): invalid int value [many]"),
        ("PARAMETER temperature hot", "(line 2): invalid float value [hot]"),
        ("PARAMETER use_mmap perhaps", "(line 2): invalid bool value [perhaps]"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_an_error(line: str, message: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        read_modelfile(f"FROM x\n{line}\n").parameters()
    assert caught.value.message == message


VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n" #')).filter(
    lambda text: '"""' not in text and not text.startswith("\ufeff")
)


@given(st.lists(st.tuples(st.sampled_from(["system", "template", "license", "message", "from"]), VALUES)))
def test_what_is_printed_reads_the_same(written: list[tuple[str, str]]) -> None:
    commands = [Command("from", "x")]
    commands += [Command(name, text, "user" if name == "message" else "") for name, text in written]
    modelfile = Modelfile(tuple(commands))
    assert said(read_modelfile(str(modelfile))) == said(modelfile)


@given(st.text() | st.lists(st.sampled_from([*COMMANDS, '"', '"""', "\n", " ", "x", "#"])).map("".join))
def test_any_text_is_a_modelfile_or_a_typed_error(text: str) -> None:
    with suppress(ModelfileError):
        read_modelfile(text)
