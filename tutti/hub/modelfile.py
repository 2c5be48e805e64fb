'''Modelfiles: the text that says how a model is made of another one.

    # a comment
    FROM llama3.2
    PARAMETER temperature 0.7
    PARAMETER stop "<|im_end|>"
    SYSTEM """You are Mario.
    Answer as Mario."""
    MESSAGE user Who are you?

A command is the first word of a line, in any case; its value is the rest of the line. A value in `"` or `"""` goes on
until a line that ends with the same. Nothing is escaped within. Errors name the line, as Ollama does.
'''

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tutti.errors import ModelfileError

COMMANDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES = ("system", "user", "assistant")

# The parameters that a model may have, by type; those of type list may be repeated.
PARAMETERS: dict[str, type] = {
    **dict.fromkeys(
        (
            "num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu",
            "main_gpu", "num_thread", "draft_num_predict",
        ),
        int,
    ),
    **dict.fromkeys(
        (
            "top_p", "min_p", "typical_p", "tfs_z", "temperature", "repeat_penalty", "presence_penalty",
            "frequency_penalty", "mirostat_tau", "mirostat_eta",
        ),
        float,
    ),
    **dict.fromkeys(("use_mmap", "use_mlock", "penalize_newline", "numa", "low_vram", "f16_kv"), bool),
    "mirostat": int,
    "stop": list,
}  # fmt: skip

_LINE = re.compile(r"[ \t]*(?P<command>[^\s#]\S*)?(?P<rest>.*)", re.DOTALL)
_WORD = re.compile(r"(?P<word>\S+)[ \t]*(?P<rest>.*)", re.DOTALL)
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `argument` is a parameter's name or a message's role; `line` counts from 1, 0: not from a file."""

    name: str
    value: str
    argument: str = ""
    line: int = 0

    def __str__(self) -> str:
        argument = f"{self.argument} " if self.argument else ""
        free = self.name in ("template", "system", "license", "message")
        return f"{self.name.upper()} {argument}{_quoted(self.value, block=free and self.name != 'message')}"


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The commands in their order. `str` of it is a Modelfile that reads the same."""

    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return "".join(f"{command}\n" for command in self.commands)

    def all(self, name: str) -> tuple[Command, ...]:
        """The commands called `name`."""
        return tuple(command for command in self.commands if command.name == name)

    def parameters(self) -> dict[str, Any]:
        """What PARAMETER says, in the parameters' types. Raises ModelfileError."""
        found: dict[str, Any] = {}
        for command in self.all("parameter"):
            value = typed_parameter(command)
            if isinstance(value, list):
                found.setdefault(command.argument, []).extend(value)
            else:
                found[command.argument] = value
        return found


def read_modelfile(data: bytes | str) -> Modelfile:
    """The Modelfile that `data` is (UTF-8, or UTF-16 with its mark). Raises ModelfileError."""
    lines = enumerate(_text(data).split("\n"), 1)
    commands = []
    for number, line in lines:
        command = _command(number, line, lines)
        if command is not None:
            commands.append(command)
    if not any(command.name == "from" for command in commands):
        raise ModelfileError("no FROM line")
    return Modelfile(tuple(commands))


def typed_parameter(command: Command) -> Any:
    """The value of a PARAMETER in its own type; a list for those that may be repeated. Raises ModelfileError."""
    name, value = command.argument, command.value.strip()
    kind = PARAMETERS.get(name)
    try:
        if kind is None:
            raise _wrong(command.line, f"unknown parameter '{name}'")
        if kind is list:
            return [command.value]
        if kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[value.lower()]
        return kind(value)
    except (ValueError, KeyError):
        said = {int: "int", float: "float", bool: "bool"}[kind or str]
        raise _wrong(command.line, f"invalid {said} value [{value}]") from None


def _command(number: int, line: str, lines: Iterator[tuple[int, str]]) -> Command | None:
    """The command that begins on `line`, with the lines that its value takes; None where the line has none."""
    match = _LINE.match(line)
    if match is None or match["command"] is None:
        return None
    name = match["command"].lower()
    if name not in COMMANDS:
        listed = ", ".join(f'"{known}"' for known in COMMANDS[:-1])
        raise _wrong(number, f'command must be one of {listed}, or "{COMMANDS[-1]}"')
    rest, argument = match["rest"].lstrip(" \t"), ""
    if name in ("parameter", "message"):
        word = _WORD.match(rest)
        if word is None:
            raise _wrong(number, "unexpected EOF")
        argument, rest = word["word"], word["rest"]
        if name == "message" and argument not in ROLES:
            raise _wrong(number, 'message role must be one of "system", "user", or "assistant"')
    return Command(name, _value(number, rest, lines), argument, number)


def _value(number: int, rest: str, lines: Iterator[tuple[int, str]]) -> str:
    """The value that begins with `rest`: unquoted, with further lines if the quote is still open."""
    if not rest.strip():
        raise _wrong(number, "unexpected EOF")
    mark = next((mark for mark in ('"""', '"') if rest.startswith(mark)), None)
    if mark is None:
        return rest.rstrip()
    pieces = [rest]
    while not pieces[-1].rstrip().endswith(mark) or (len(pieces) == 1 and len(rest.rstrip()) < 2 * len(mark)):
        _, line = next(lines, (0, None))
        if line is None:
            raise _wrong(number, "unexpected EOF")
        pieces.append(line)
    return "\n".join(pieces).rstrip()[len(mark) : -len(mark)]


def _quoted(value: str, *, block: bool) -> str:
    """`value` so that it is read back the same."""
    plain = value == value.strip() and "\n" not in value and "\r" not in value and value
    if plain and not value.startswith('"') and not block:
        return value
    if '"' not in value and not block:
        return f'"{value}"'
    return f'"""{value}"""'


def _text(data: bytes | str) -> str:
    """The file's text; what is no text is an error."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff").replace("\r\n", "\n")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _wrong(line, f"this is no {encoding.removesuffix('-sig').upper()} text") from error


def _wrong(line: int, message: str) -> ModelfileError:
    return ModelfileError(f"(line {line}): {message}" if line else message)
