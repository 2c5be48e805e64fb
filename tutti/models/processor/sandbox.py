"""The Jinja environment of chat templates: the one of transformers' `apply_chat_template`.

Templates come with checkpoints, so they are foreign code: they run in Jinja's immutable sandbox. Imported at the
first template, because importing the sandbox takes a tenth of a second.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["RaisedByTemplate", "TemplateError", "environment", "tests_none", "undeclared"]


class RaisedByTemplate(TemplateError):
    """The template called `raise_exception`: the conversation is not of a form it takes."""


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant said, for training; here it is its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _raise_exception(message: str) -> None:
    raise RaisedByTemplate(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes HTML's signs, which no model was trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment() -> ImmutableSandboxedEnvironment:
    """A new environment."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    return made


def undeclared(source: str) -> frozenset[str]:
    """The variables that a template reads and does not set."""
    return frozenset(meta.find_undeclared_variables(environment().parse(source)))


def tests_none(source: str) -> bool:
    """Whether a template asks anywhere if something `is none`."""
    return any(test.name == "none" for test in environment().parse(source).find_all(nodes.Test))
