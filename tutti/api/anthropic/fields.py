"""What Anthropic's clients send: the fields of `/v1/messages` and `/v1/messages/count_tokens`.

Typed structs; `None` means that the caller did not say. How the messages become a chat is in `prompt`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tutti.errors import InvalidRequest


class Message(msgspec.Struct, kw_only=True):
    """One message: text, or blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Tool(msgspec.Struct, kw_only=True):
    """A tool of the caller's. Those that Anthropic's servers run have a type of their own and are refused."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    """The caller's say in the tools' use."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """Whether the model thinks aloud. How long is its own affair: `budget_tokens` is not enforced."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct, kw_only=True, rename={"json_schema": "schema"}):
    """The schema of the answer."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True):
    """The form of the answer, and the effort put into it."""

    effort: str | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, kw_only=True):
    """Who the caller asks for. Not used."""

    user_id: str | None = None


class PromptFields(msgspec.Struct, kw_only=True):
    """What decides the prompt: `POST /v1/messages/count_tokens`."""

    messages: list[Message]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    mcp_servers: Any = None
    container: Any = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        for name in ("mcp_servers", "container"):
            if getattr(self, name):
                raise InvalidRequest(f"{name} is not supported by this server. Leave it out.", param=name)


class MessageFields(PromptFields, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
