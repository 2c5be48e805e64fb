"""What programs send to `/v1/responses`, as OpenAI names it.

Typed structs; `None` means that the caller did not say.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tutti.errors import InvalidRequest
from tutti.request import StructuredOutputs

_LOGPROBS = "message.output_text.logprobs"


class TextFormat(msgspec.Struct, kw_only=True, rename={"json_schema": "schema"}, omit_defaults=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True):
    """What is asked of the answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(msgspec.Struct, kw_only=True):
    """How much the model thinks before it answers. Its thoughts are given as they are, so nothing is summed up."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseFields(msgspec.Struct, kw_only=True):
    """`POST /v1/responses`."""

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    # What changes the answer and is not served here: refused rather than ignored.
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        for name in ("background", "conversation", "prompt", "top_logprobs"):
            if getattr(self, name):
                raise InvalidRequest(f"{name} is not supported by this server. Leave it out.", param=name)
        if _LOGPROBS in (self.include or ()):
            raise InvalidRequest(
                f"include: {_LOGPROBS} is not supported here; /v1/chat/completions has logprobs.",
                param="include",
            )
        if not self.input and self.previous_response_id is None:
            raise InvalidRequest("input must not be empty.", param="input")

    @property
    def kept(self) -> bool:
        """Whether the response can be asked for later."""
        return self.store is not False

    @property
    def form(self) -> StructuredOutputs | None:
        """The form of the answer. Raises InvalidRequest."""
        wanted = None if self.text is None else self.text.format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return StructuredOutputs(json_object=True)
        if wanted.json_schema is None:
            raise InvalidRequest(
                "text.format of type json_schema needs a schema.", param="text.format.schema"
            )
        return StructuredOutputs(json=wanted.json_schema)
