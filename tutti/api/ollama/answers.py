"""What programs get: Ollama's response objects. Values only; what has its default is left out, as Ollama leaves it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class FunctionCall(Struct):
    """A call's name and arguments."""

    index: int
    name: str
    arguments: dict[str, Any]


class ToolCall(Struct):
    """One call of a tool."""

    id: str
    function: FunctionCall


class Message(Struct, omit_defaults=True):
    """What the model says, or a piece of it."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[ToolCall] | UnsetType = UNSET
    images: list[str] | UnsetType = UNSET  # base64, as in messages to the model


class TopLogprob(Struct):
    """A token that might have been."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob] | UnsetType = UNSET


class Account(Struct, omit_defaults=True, kw_only=True):
    """What an answer cost: durations in nanoseconds, counts in tokens; nothing of it before the end."""

    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class ChatResponse(Account, kw_only=True):
    """A line of `/api/chat`, or all of it."""

    model: str
    created_at: str
    message: Message
    done: bool
    completed: int = 0  # ours: of `total` steps of a picture
    total: int = 0
    logprobs: list[TokenLogprob] | UnsetType = UNSET


class GenerateResponse(Account, kw_only=True):
    """A line of `/api/generate`, or all of it."""

    model: str
    created_at: str
    response: str
    done: bool
    thinking: str = ""
    context: list[int] | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET


class EmbedResponse(Struct):
    """The answer of `/api/embed`; durations in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingsResponse(Struct):
    """The answer of `/api/embeddings`."""

    embedding: list[float]


class Details(Struct):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ListedModel(Struct):
    """One model of `/api/tags`; `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str]


class RunningModel(Struct):
    """One model of `/api/ps`; sizes in bytes."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class Models(Struct):
    """The answer of `/api/tags` and `/api/ps`."""

    models: list[ListedModel] | list[RunningModel]


class ShownTensor(Struct):
    """A tensor as `/api/show` lists it."""

    name: str
    type: str
    shape: list[int]


class ShownModel(Struct, omit_defaults=True):
    """The answer of `/api/show`."""

    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    license: str = ""
    system: str = ""
    messages: list[Message] | UnsetType = UNSET
    projector_info: dict[str, Any] | UnsetType = UNSET
    tensors: list[ShownTensor] | UnsetType = UNSET


def timestamp(seconds: float) -> str:
    """A moment (seconds since the epoch) as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
