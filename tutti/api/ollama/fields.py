"""What programs send: the fields of `/api/chat` and `/api/generate`, as Ollama names them.

Typed structs; `None` means that the caller did not say. Unknown fields are ignored, as Ollama ignores them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tutti.api.ollama.duration import FOREVER, seconds
from tutti.api.ollama.options import MAX_LOGPROBS
from tutti.api.openai.fields import PictureFields
from tutti.api.openai.parse import parse
from tutti.errors import InvalidRequest
from tutti.request import StructuredOutputs

T = TypeVar("T")

LEVELS = ("low", "medium", "high", "max")  # of thinking


class ModelFields(msgspec.Struct, kw_only=True):
    """The fields of all that a model does."""

    model: str | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _ = self.stays  # refuses what is no duration

    @property
    def name(self) -> str:
        """What the model was called."""
        return self.model or ""

    @property
    def stays(self) -> float | None:
        """`keep_alive` in seconds. Raises InvalidRequest."""
        return None if self.keep_alive is None else seconds(self.keep_alive)


class AnswerFields(ModelFields, kw_only=True):
    """The fields that both endpoints of answers have."""

    stream: bool | None = None
    format: Any = None
    think: Any = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.think is not None and not isinstance(self.think, bool) and self.think not in LEVELS:
            raise InvalidRequest(
                f'invalid think value: "{self.think}" (must be "high", "medium", "low", "max", true, or false)',
                param="think",
            )
        if not 0 <= (self.top_logprobs or 0) <= MAX_LOGPROBS:
            raise InvalidRequest(f"top_logprobs must be between 0 and {MAX_LOGPROBS}", param="top_logprobs")
        super().__post_init__()

    @property
    def form(self) -> StructuredOutputs | None:
        """`format` as the form that the answer must take. Raises InvalidRequest."""
        if self.format in (None, ""):
            return None
        if self.format == "json":
            return StructuredOutputs(json_object=True)
        if isinstance(self.format, dict):
            return StructuredOutputs(json=self.format)
        shown = msgspec.json.encode(self.format).decode()
        raise InvalidRequest(
            f'invalid format: {shown}; expected "json" or a valid JSON Schema object', param="format"
        )


class FunctionFields(msgspec.Struct, kw_only=True):
    """A call's name and arguments."""

    name: str
    arguments: dict[str, Any] | None = None


class ToolCallFields(msgspec.Struct, kw_only=True):
    """A call that the model made before."""

    function: FunctionFields
    id: str | None = None


class MessageFields(msgspec.Struct, kw_only=True):
    """One message; `images` are base64."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCallFields] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ChatFields(AnswerFields, kw_only=True):
    """`POST /api/chat`."""

    messages: list[MessageFields] | None = None
    tools: list[dict[str, Any]] | None = None
    modalities: list[str] | None = None  # ours: "image" has a model that draws show what it draws
    image: PictureFields | None = None  # ours: how


class GenerateFields(AnswerFields, kw_only=True):
    """`POST /api/generate`."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.raw and (self.template or self.system or self.context):
            raise InvalidRequest("raw mode does not support template, system, or context", param="raw")


def read(body: bytes, kind: type[T]) -> T:
    """`body` as a `kind`. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest("missing request body")
    return parse(body, kind)


def expiry(stays: float, now: float) -> float:
    """When a model that stays so long is dropped (seconds since the epoch); three centuries stand for never."""
    return now + (2**63 / 1e9 if stays == FOREVER else stays)
