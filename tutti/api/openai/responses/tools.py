"""The tools of a response and the caller's say in their use, in the form that chats have them."""

from __future__ import annotations

from typing import Any

from tutti.api.openai.tools import ToolChoice, check_tools
from tutti.errors import InvalidRequest

Tool = dict[str, Any]


def read_tools(
    tools: list[Tool] | None, choice: str | dict[str, Any] | None
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools and the choice among them. Raises InvalidRequest, which names a tool that is not a function."""
    made = tuple(_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools or ()))
    if not isinstance(choice, dict):
        return check_tools(made, choice)
    kind = choice.get("type")
    if kind == "function":
        return check_tools(made, {"type": "function", "function": {"name": choice.get("name")}})
    if kind != "allowed_tools":
        raise InvalidRequest(
            f"tool_choice: {kind!r} is not supported: this server has functions only.", param="tool_choice"
        )
    allowed = {tool.get("name") for tool in choice.get("tools") or () if isinstance(tool, dict)}
    left = tuple(tool for tool in made if tool["function"]["name"] in allowed)
    return check_tools(left, choice.get("mode", "auto"))


def _tool(name: str, tool: Tool) -> Tool:
    kind = tool.get("type")
    if kind != "function":
        raise InvalidRequest(
            f"{name}: tools of type {kind!r} are not supported: this server takes functions, which the caller runs.",
            param=name,
        )
    function = {
        key: tool[key] for key in ("name", "description", "parameters", "strict") if tool.get(key) is not None
    }
    return {"type": "function", "function": function}
