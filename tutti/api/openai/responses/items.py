"""From the items of a response's input to a chat's messages.

Items are finer than messages: a thought, what was said and each call of one answer are items of their own, which are
one message here. What this server cannot take (files, what tools of OpenAI's servers did) is refused by its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tutti.errors import InvalidRequest

Item = dict[str, Any]
Named = tuple[str, Item]  # what the caller calls it, and what it is

_TEXTS = ("input_text", "output_text", "text", "refusal")
_MEDIA = ("input_image", "input_audio")


def input_items(given: str | Sequence[Item]) -> list[Item]:
    """The items of the field `input`, where text is a user's message."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}] if given else []
    return list(given)


class ItemReader:
    """Makes messages of items. `names` says what the caller calls the part (message, part) of a message."""

    def __init__(self, instructions: str | None) -> None:
        self.messages: list[dict[str, Any]] = []
        self.names: dict[tuple[int, int], str] = {}
        self._answer: dict[str, Any] | None = None  # the message that more of the same answer belongs to
        self._instructed = bool(instructions)
        if instructions:
            self.messages.append({"role": "system", "content": instructions})

    def read(self, items: Iterable[Named]) -> None:
        """Take items in. Raises InvalidRequest, which names the one at fault."""
        for name, item in items:
            kind = item.get("type", "message")
            if kind == "message":
                self._message(name, item)
            elif kind == "function_call":
                self._call(name, item)
            elif kind == "function_call_output":
                self._output(name, item)
            elif kind == "reasoning":
                self._reasoning(item)
            else:
                raise InvalidRequest(
                    f"{name}: an item of type {kind!r} is not taken by this server: it takes message, function_call, "
                    "function_call_output and reasoning.",
                    param=name,
                )

    def _message(self, name: str, item: Item) -> None:
        role = item.get("role")
        if role not in ("user", "assistant", "system", "developer"):
            raise InvalidRequest(
                f"{name}.role must be user, assistant, system or developer, got {role!r}.",
                param=f"{name}.role",
            )
        content = self._content(f"{name}.content", item.get("content"))
        if role == "assistant":
            self._said(name, content)
            return
        if self._joins(role, content):
            self.messages[0]["content"] += f"\n\n{content}"
            return
        self._say({"role": role, "content": content})

    def _said(self, name: str, content: Any) -> None:
        """What the model said: with its thought before it, if there is one."""
        parts = [] if isinstance(content, str) else content
        if any(part["type"] != "text" for part in parts):
            raise InvalidRequest(f"{name}.content: an answer is text.", param=f"{name}.content")
        answer = self._unsaid()
        answer["content"] = content if isinstance(content, str) else "".join(part["text"] for part in parts)

    def _joins(self, role: str, content: Any) -> bool:
        """Whether this belongs to the instructions: templates take one system message, at the beginning."""
        return (
            self._instructed
            and len(self.messages) == 1
            and role in ("system", "developer")
            and isinstance(content, str)
        )

    def _call(self, name: str, item: Item) -> None:
        function = {key: _string(name, item, key) for key in ("name", "arguments")}
        answer = self._answer or self._begin()
        call = {"id": _string(name, item, "call_id"), "type": "function", "function": function}
        answer.setdefault("tool_calls", []).append(call)

    def _output(self, name: str, item: Item) -> None:
        called = _string(name, item, "call_id")
        content = self._content(f"{name}.output", item.get("output"))
        self._say({"role": "tool", "tool_call_id": called, "content": content})

    def _reasoning(self, item: Item) -> None:
        """A thought: its own words, or at least their summary. One that is encrypted says nothing here."""
        parts = item.get("content") or item.get("summary") or []
        text = "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
        if text:
            answer = self._unsaid()
            before = answer.get("reasoning_content")
            answer["reasoning_content"] = text if before is None else f"{before}\n{text}"

    def _unsaid(self) -> dict[str, Any]:
        """The message of the model's of which only thoughts are known, or a new one."""
        answer = self._answer
        if answer is None or answer["content"] is not None or "tool_calls" in answer:
            return self._begin()
        return answer

    def _begin(self) -> dict[str, Any]:
        """A new message of the model's."""
        answer: dict[str, Any] = {"role": "assistant", "content": None}
        self.messages.append(answer)
        self._answer = answer
        return answer

    def _say(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._answer = None

    def _content(self, name: str, content: Any) -> Any:
        """Text, or parts as chats have them."""
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise InvalidRequest(f"{name} must be a string or a list of parts.", param=name)
        parts = [self._part(f"{name}[{index}]", index, part) for index, part in enumerate(content)]
        if len(parts) == 1 and parts[0]["type"] == "text":
            return parts[0]["text"]
        return parts

    def _part(self, name: str, index: int, part: Any) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind in _TEXTS:
            return {"type": "text", "text": _string(name, part, "refusal" if kind == "refusal" else "text")}
        if kind not in _MEDIA:
            raise InvalidRequest(
                f"{name}: a part of type {kind!r} is not taken by this server: it takes input_text, input_image and "
                "input_audio.",
                param=name,
            )
        if part.get("file_id") is not None:
            raise InvalidRequest(
                f"{name}.file_id: this server keeps no files; give an image_url.", param=f"{name}.file_id"
            )
        self.names[len(self.messages), index] = name
        if kind == "input_image":
            return {"type": kind, "image_url": _string(name, part, "image_url")}
        return {"type": kind, "input_audio": part.get("input_audio")}


def _string(name: str, value: Item, key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise InvalidRequest(f"{name}.{key} must be a string.", param=f"{name}.{key}")
    return found
