"""From Anthropic's messages to a chat: blocks to content, reasoning, calls and what the tools answered.

What a block has no place for in a chat (documents that are files, tools that a server runs) is refused by its type.
Messages of one role that follow each other are one message, as Anthropic has it, and an answer at the end is the
beginning of the one asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tutti.api.anthropic.fields import Message, PromptFields, Tool
from tutti.api.openai.tools import check_tools
from tutti.api.reading import thinking
from tutti.errors import InvalidRequest
from tutti.request import Chat, StructuredOutputs


@dataclass(slots=True)
class Prompt:
    """A chat, and what the caller calls the parts of its messages that are media."""

    chat: Chat
    form: StructuredOutputs | None
    parallel_calls: bool
    names: dict[tuple[int, int], str] = field(default_factory=dict)


def read_prompt(fields: PromptFields) -> Prompt:
    """The chat of `fields`. Raises InvalidRequest, which names the block."""
    reader = _Reader()
    system = fields.system if isinstance(fields.system, str) else _texts(fields.system or (), "system")
    if system:
        reader.messages.append({"role": "system", "content": system})
    for role, blocks in _merged(fields.messages):
        reader.read(role, blocks)
    continues = fields.messages[-1].role == "assistant"
    if continues and reader.messages[-1].get("tool_calls"):
        raise InvalidRequest(
            "The last message calls tools: it must be followed by their tool_result blocks.", param="messages"
        )
    form, variables = _output(fields)
    tools, choice = _tools(fields)
    chat = Chat(
        messages=tuple(reader.messages),
        tools=tools,
        tool_choice=choice,
        template_kwargs=variables,
        add_generation_prompt=not continues,
        continue_final_message=continues,
    )
    parallel = fields.tool_choice is None or not fields.tool_choice.disable_parallel_tool_use
    return Prompt(chat, form, parallel, reader.names)


Block = tuple[str, dict[str, Any]]  # what the caller calls it, and what it is


class _Reader:
    """Makes a chat's messages of messages made of blocks."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.names: dict[tuple[int, int], str] = {}

    def read(self, role: str, blocks: list[Block]) -> None:
        """The messages of one that Anthropic has."""
        if role == "assistant":
            self._assistant(blocks)
        elif role == "system":
            self.messages.append({"role": "system", "content": "\n".join(_text(*block) for block in blocks)})
        else:
            self._user(blocks)

    def _user(self, blocks: list[Block]) -> None:
        """What a user says; what tools answered becomes messages of their own, in its place."""
        said: list[Block] = []
        for name, block in blocks:
            if block.get("type") != "tool_result":
                said.append((name, block))
                continue
            self._say({"role": "user"}, said)
            said = []
            self._tool_result(name, block)
        self._say({"role": "user"}, said)

    def _tool_result(self, name: str, block: dict[str, Any]) -> None:
        called = block.get("tool_use_id")
        if not isinstance(called, str):
            raise InvalidRequest(f"{name}.tool_use_id must be a string.", param=f"{name}.tool_use_id")
        inner = list(_blocks(block.get("content", ""), f"{name}.content"))
        if block.get("is_error"):  # chats have no word for it
            inner.insert(0, (name, {"type": "text", "text": "Error:"}))
        self._say({"role": "tool", "tool_call_id": called}, inner or [(name, {"type": "text", "text": ""})])

    def _assistant(self, blocks: list[Block]) -> None:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[dict[str, Any]] = []
        for name, block in blocks:
            kind = block.get("type")
            if kind == "thinking":
                thoughts.append(_string(name, block, "thinking"))
            elif kind == "tool_use":
                calls.append(_call(name, block))
            elif kind != "redacted_thinking":  # nobody here can read that
                texts.append(_text(name, block))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
        if thoughts:
            message["reasoning_content"] = "\n".join(thoughts)
        if calls:
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        self.messages.append(message)

    def _say(self, message: dict[str, Any], blocks: list[Block]) -> None:
        """Add `message` with the content of `blocks`: text, or parts where there are pictures among them."""
        if not blocks:
            return
        parts = []
        for index, (name, block) in enumerate(blocks):
            if block.get("type") == "image":
                self.names[len(self.messages), index] = name
                parts.append(_image(name, block))
            else:
                parts.append({"type": "text", "text": _text(name, block)})
        if len(parts) == 1 and "text" in parts[0]:
            self.messages.append({**message, "content": parts[0]["text"]})
        else:
            self.messages.append({**message, "content": parts})


def _merged(messages: list[Message]) -> list[tuple[str, list[Block]]]:
    """(role, blocks) of the messages, those of one role that follow each other together."""
    merged: list[tuple[str, list[Block]]] = []
    for index, message in enumerate(messages):
        blocks = list(_blocks(message.content, f"messages[{index}].content"))
        if merged and merged[-1][0] == message.role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message.role, blocks))
    return merged


def _blocks(content: Any, where: str) -> Iterable[Block]:
    if isinstance(content, str):
        yield where, {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or a list of blocks.", param=where)
    for index, block in enumerate(content):
        name = f"{where}[{index}]"
        if not isinstance(block, dict):
            raise InvalidRequest(f"{name} must be an object with a type.", param=name)
        yield name, block


def _texts(blocks: Iterable[dict[str, Any]], where: str) -> str:
    return "\n".join(_text(f"{where}[{index}]", block) for index, block in enumerate(blocks))


def _text(name: str, block: dict[str, Any]) -> str:
    """The text of a block that has one. Raises InvalidRequest for others."""
    kind = block.get("type")
    if kind == "text":
        return _string(name, block, "text")
    source = block.get("source")
    if kind == "document" and isinstance(source, dict) and source.get("type") == "text":
        title = block.get("title")
        text = _string(f"{name}.source", source, "data")
        return f"{title}\n\n{text}" if isinstance(title, str) and title else text
    if kind == "document":
        raise InvalidRequest(
            f"{name}: documents are taken as text (source of type 'text') only: send what the file says, or pictures.",
            param=name,
        )
    raise InvalidRequest(f"{name}: a block of type {kind!r} has no place there on this server.", param=name)


def _image(name: str, block: dict[str, Any]) -> dict[str, Any]:
    """The picture as chats have it."""
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "base64":
        return {"type": "image", "url": f"data:;base64,{_string(f'{name}.source', source, 'data')}"}
    if kind == "url":
        return {"type": "image", "url": _string(f"{name}.source", source, "url")}
    raise InvalidRequest(
        f"{name}.source must be of type base64 or url, got {kind!r}: this server keeps no files.",
        param=f"{name}.source",
    )


def _call(name: str, block: dict[str, Any]) -> dict[str, Any]:
    """A call as chats have it."""
    called = {"name": _string(name, block, "name"), "arguments": block.get("input") or {}}
    if not isinstance(called["arguments"], dict):
        raise InvalidRequest(f"{name}.input must be an object.", param=f"{name}.input")
    return {"id": _string(name, block, "id"), "type": "function", "function": called}


def _string(name: str, block: Any, key: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}.{key} must be a string.", param=f"{name}.{key}")
    return value


def _output(fields: PromptFields) -> tuple[StructuredOutputs | None, dict[str, Any]]:
    """The form of the answer, and what the template is told of thinking: nothing where the caller says nothing."""
    config = fields.output_config
    form = (
        None if config is None or config.format is None else StructuredOutputs(json=config.format.json_schema)
    )
    variables: dict[str, Any] = {}
    if fields.thinking is not None:
        variables["enable_thinking"] = fields.thinking.type != "disabled"
    if config is not None and config.effort is not None:
        variables["reasoning_effort"] = config.effort
    return form, variables | thinking(None, constrained=form is not None)


def _tools(fields: PromptFields) -> tuple[tuple[dict[str, Any], ...], str | dict[str, Any]]:
    tools = tuple(_tool(f"tools[{index}]", tool) for index, tool in enumerate(fields.tools or ()))
    wanted = fields.tool_choice
    choice: str | dict[str, Any] | None = None
    if wanted is not None:
        choice = {"auto": "auto", "none": "none", "any": "required"}.get(wanted.type)
        if choice is None:
            choice = {"type": "function", "function": {"name": wanted.name}}
    return check_tools(tools, choice)


def _tool(name: str, tool: Tool) -> dict[str, Any]:
    """A tool as chats have it."""
    if tool.type not in (None, "custom"):
        raise InvalidRequest(
            f"{name}: {tool.type!r} is a tool that Anthropic's servers run. This one takes tools of the caller's own "
            "only (type 'custom').",
            param=name,
        )
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object"}
    return {"type": "function", "function": function}
