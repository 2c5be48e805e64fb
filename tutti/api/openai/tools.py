"""The tools of a request and the caller's say in their use, checked. How they are presented and read is the model's."""

from __future__ import annotations

from typing import Any

from tutti.api.openai.fields import ChatFields
from tutti.errors import InvalidRequest

ToolChoice = str | dict[str, Any]


def read_tools(fields: ChatFields) -> tuple[tuple[dict[str, Any], ...], ToolChoice]:
    """The tools and the choice among them: "auto", "none", "required" or the object that names one.

    Raises InvalidRequest.
    """
    return check_tools(tuple(fields.tools or ()), fields.tool_choice)


def check_tools(
    tools: tuple[dict[str, Any], ...], choice: ToolChoice | None
) -> tuple[tuple[dict[str, Any], ...], ToolChoice]:
    """The same, of tools and a choice in the form that chats have. Raises InvalidRequest."""
    names = [_name(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    if choice is None:
        return tools, "auto" if tools else "none"
    if choice not in ("none", "auto", "required") and not isinstance(choice, dict):
        raise InvalidRequest(
            f"tool_choice must be none, auto, required or name a function, got {choice!r}.",
            param="tool_choice",
        )
    if not tools and choice not in ("none", "auto"):
        raise InvalidRequest("tool_choice asks for a call, but there are no tools.", param="tool_choice")
    if isinstance(choice, dict) and (name := _name(choice, "tool_choice")) not in names:
        raise InvalidRequest(
            f"tool_choice names {name!r}, which is not among the tools: {', '.join(names)}.",
            param="tool_choice",
        )
    return tools, choice


def _name(value: dict[str, Any], where: str) -> str:
    """The name in `{"type": "function", "function": {"name": ...}}`."""
    function = value.get("function") if value.get("type", "function") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            f'{where} must be of the form {{"type": "function", "function": {{"name": ...}}}}.', param=where
        )
    return name
