"""The form an answer must take so that it calls a tool, per syntax, as xgrammar's structural tags.

The parsers read text that models wrote freely; with `tool_choice` "required" or a named tool the engine is given one
of these, so that what is written is a call of an offered tool with arguments of its schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tutti.errors import InvalidRequest
from tutti.models.parsers import harmony, hermes, mistral, thinking
from tutti.request import Chat, StructuredOutputs

Format = dict[str, Any]


def wanted_tools(chat: Chat) -> list[dict[str, Any]]:
    """The functions of which `chat.tool_choice` demands a call; empty when it demands none.

    Raises InvalidRequest when it names a tool that is not offered, or none is.
    """
    choice = chat.tool_choice
    if choice in (None, "auto", "none"):
        return []
    functions = [tool["function"] for tool in chat.tools if isinstance(tool.get("function"), dict)]
    if isinstance(choice, dict):
        named = choice.get("function")
        name = named.get("name") if isinstance(named, dict) else choice.get("name")
        functions = [function for function in functions if function.get("name") == name]
        if not functions:
            raise InvalidRequest(
                f"tool_choice names {name!r}, which is not among the tools", param="tool_choice"
            )
    elif choice != "required":
        raise InvalidRequest(
            f'tool_choice must be "none", "auto", "required" or name a function; got {choice!r}',
            param="tool_choice",
        )
    if not functions:
        raise InvalidRequest('tool_choice "required" needs tools', param="tool_choice")
    return functions


def _tags(functions: Sequence[dict[str, Any]], begin: Callable[[str], str], end: str) -> list[Format]:
    return [
        {
            "type": "tag",
            "begin": begin(function["name"]),
            "content": {
                "type": "json_schema",
                "json_schema": function.get("parameters") or {"type": "object"},
            },
            "end": end,
        }
        for function in functions
    ]


def _calls(tags: list[Format], separator: str, several: bool) -> Format:
    return {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": separator,
        "at_least_one": True,
        "stop_after_first": not several,
    }


def _sequence(*elements: Format) -> Format:
    return {"type": "sequence", "elements": list(elements)}


def _text(value: str) -> Format:
    return {"type": "const_string", "value": value}


def hermes_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """Calls as `hermes` reads them."""
    tags = _tags(
        functions,
        lambda name: f'{hermes.OPEN}\n{{"name": {json.dumps(name)}, "arguments": ',
        f"}}\n{hermes.CLOSE}",
    )
    return _calls(tags, "\n", several)


def llama3_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """Calls as `llama3_json` reads them."""
    return _calls(
        _tags(functions, lambda name: f'{{"name": {json.dumps(name)}, "parameters": ', "}"), "; ", several
    )


def tagged_calls(functions: Sequence[dict[str, Any]], tag: str, several: bool) -> Format:
    """Calls as `tagged_json` reads them, each behind the tag."""
    return _calls(
        _tags(functions, lambda name: f'{tag}{{"name": {json.dumps(name)}, "arguments": ', "}"), "\n", several
    )


def mistral_list_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """Calls as `mistral` reads them, as a list."""
    tags = _tags(functions, lambda name: f'{{"name": {json.dumps(name)}, "arguments": ', "}")
    return _sequence(_text(f"{mistral.CALLS}["), _calls(tags, ", ", several), _text("]"))


def mistral_named_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """Calls as `mistral` reads them, each with its mark."""
    return _calls(_tags(functions, lambda name: f"{mistral.CALLS}{name}", ""), "", several)


def mistral_args_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """Calls as `mistral` reads them, with `[ARGS]` between name and arguments."""
    return _calls(_tags(functions, lambda name: f"{mistral.CALLS}{name}{mistral.ARGS}", ""), "", several)


def harmony_calls(functions: Sequence[dict[str, Any]], several: bool) -> Format:
    """One call as `harmony` reads it (its models stop behind each), after a thought if the model wants one."""
    thought = {
        "type": "tag",
        "begin": f"{harmony.CHANNEL}analysis{harmony.MESSAGE}",
        "content": {"type": "any_text"},
        "end": f"{harmony.END}{harmony.START}assistant",
    }
    tags = _tags(
        functions,
        lambda name: (
            f"{harmony.CHANNEL}commentary to=functions.{name} {harmony.CONSTRAIN}json{harmony.MESSAGE}"
        ),
        harmony.CALL,
    )
    return _sequence({"type": "optional", "content": thought}, _calls(tags, "", several=False))


def after_thought(calls: Format, inside: bool) -> Format:
    """`calls` behind a thought: the rest of one when the prompt opened it, else one if the model wants to think."""
    thought = {
        "type": "tag",
        "begin": "" if inside else f"{thinking.OPEN}\n",
        "content": {"type": "any_text"},
        "end": f"{thinking.CLOSE}\n\n",
    }
    return _sequence(thought if inside else {"type": "optional", "content": thought}, calls)


def json_answer(form: StructuredOutputs) -> Format:
    """A JSON schema, or any JSON object, as a part of a structural tag."""
    schema = json.loads(form.json) if isinstance(form.json, str) else form.json
    return {"type": "json_schema", "json_schema": schema or {"type": "object"}}


def structural_tag(form: Format) -> StructuredOutputs:
    """`form` as a request's structured outputs."""
    return StructuredOutputs(structural_tag={"type": "structural_tag", "format": form})
