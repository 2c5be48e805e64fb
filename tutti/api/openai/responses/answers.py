"""What programs get from `/v1/responses`: OpenAI's response, and the items in it. Values only."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

COMPLETED, INCOMPLETE, IN_PROGRESS, FAILED = "completed", "incomplete", "in_progress", "failed"


class OutputText(Struct, tag="output_text"):
    """Something said."""

    text: str
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)


class ReasoningText(Struct, tag="reasoning_text"):
    """Something thought."""

    text: str


class Message(Struct, tag="message"):
    """What is said."""

    id: str
    status: str
    content: list[OutputText]
    role: str = "assistant"


class Reasoning(Struct, tag="reasoning"):
    """A thought, as it is."""

    id: str
    status: str
    content: list[ReasoningText]
    summary: list[Any] = field(default_factory=list)
    encrypted_content: None = None


class FunctionCall(Struct, tag="function_call"):
    """A call of a tool; `arguments` is JSON text."""

    id: str
    status: str
    call_id: str
    name: str
    arguments: str


Item = Message | Reasoning | FunctionCall


class InputDetails(Struct):
    """How much of the input came from the prefix cache."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    """How much of the output was thinking."""

    reasoning_tokens: int


class Usage(Struct):
    """What a response cost, in tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(Struct):
    """A response: what was asked, and what was answered. Times are in seconds since the epoch."""

    id: str
    created_at: int
    status: str
    model: str
    output: list[Item]
    temperature: float
    top_p: float
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any]
    truncation: str
    store: bool
    instructions: str | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    completed_at: int | None = None
    error: dict[str, str] | None = None
    incomplete_details: dict[str, str] | None = None
    usage: Usage | None = None
    background: bool = False
    top_logprobs: int = 0
    service_tier: str = "default"
    object: str = "response"


class Deleted(Struct):
    """The answer to a deletion."""

    id: str
    object: str = "response"
    deleted: bool = True
