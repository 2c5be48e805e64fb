"""Tools for chat templates that know none: described in the system message, in the form of the Hermes models.

A model that was never trained on a tool syntax follows this one well, and `parsers.hermes` reads what it answers.
Calls and results of earlier turns become plain text of the same form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutti.models.processor.messages import Message

_BLOCK = """You can call functions to help the user. Their signatures, as JSON schemas, are inside <tools></tools>:
<tools>
{tools}
</tools>

To call a function, answer with its name and arguments as one JSON object inside <tool_call></tool_call>:
<tool_call>
{{"name": "function name", "arguments": {{"argument": "value"}}}}
</tool_call>
Results come back inside <tool_response></tool_response>."""


def tool_block(tools: Sequence[Mapping[str, Any]]) -> str:
    """The text that tells a model which tools there are and how to call them."""
    return _BLOCK.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def with_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, system_role: bool
) -> list[Message]:
    """`messages` with the tools described and earlier calls and results as text.

    Without `system_role` (the template refuses system messages) the description opens the first user message.
    """
    made = _history_as_text(messages)
    if not tools:
        return made
    block = tool_block(tools)
    if made and made[0]["role"] == "system":
        return [_join(made[0], block), *made[1:]]
    if system_role:
        return [{"role": "system", "content": block}, *made]
    for index, message in enumerate(made):
        if message["role"] == "user":
            opened = _join({**message, "content": block}, message["content"])
            return [*made[:index], opened, *made[index + 1 :]]
    return [{"role": "user", "content": block}, *made]


def _history_as_text(messages: Sequence[Message]) -> list[Message]:
    """Calls in the assistant's words, results in the user's; neighbours of one role joined, as templates demand."""
    made: list[Message] = []
    after_result = False
    for message in messages:
        result = message["role"] == "tool"
        if result:
            message = {"role": "user", "content": _wrapped("tool_response", message.get("content"))}
        elif message.get("tool_calls"):
            message = _calls_as_text(message)
        if made and message["role"] == "user" == made[-1]["role"] and (result or after_result):
            made[-1] = _join(made[-1], message["content"])
        else:
            made.append(message)
        after_result = result
    return made


def _calls_as_text(message: Message) -> Message:
    made = {key: value for key, value in message.items() if key != "tool_calls"}
    if not _has_media(made.get("content")):
        made["content"] = _text(made.get("content"))
    for call in message["tool_calls"]:
        function = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        made = _join(made, _wrap("tool_call", json.dumps(function, ensure_ascii=False)), "\n")
    return made


def _wrap(tag: str, text: str) -> str:
    return f"<{tag}>\n{text}\n</{tag}>"


def _wrapped(tag: str, content: Any) -> str | list[Message]:
    """`content` between tags, with the media in it where they are."""
    if not _has_media(content):
        return _wrap(tag, _text(content))
    opened, closed = {"type": "text", "text": f"<{tag}>\n"}, {"type": "text", "text": f"\n</{tag}>"}
    return [opened, *content, closed]


def _has_media(content: Any) -> bool:
    return isinstance(content, list) and any(part["type"] != "text" for part in content)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content or ""


def _parts(content: Any) -> list[Message]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _join(message: Message, content: Any, gap: str = "\n\n") -> Message:
    """`message` with `content` behind its own; content stays a list of parts when it is one."""
    own = message.get("content")
    if _has_media(own) or _has_media(content):
        first, more = _parts(own), _parts(content)
        if first and more and first[-1]["type"] == more[0]["type"] == "text":
            between = {"type": "text", "text": first[-1]["text"] + gap + more[0]["text"]}
            return {**message, "content": [*first[:-1], between, *more[1:]]}
        return {**message, "content": [*first, *more]}
    before, after = _text(own), _text(content)
    joined = f"{before}{gap if before and after else ''}{after}"
    if isinstance(own, list) or isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": joined}]}
    return {**message, "content": joined}
