"""What clients send, typed: OpenAI's client events, items and parameters of answers. What fields mean is elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class ContentFields(msgspec.Struct, kw_only=True):
    """A content part of a message."""

    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio", "text"]
    text: str | None = None
    audio: bytes | None = None  # base64 on the wire
    transcript: str | None = None
    image_url: str | None = None
    detail: str | None = None


class MessageFields(msgspec.Struct, kw_only=True, tag="message"):
    """A message."""

    role: Literal["system", "user", "assistant"]
    content: list[ContentFields]
    id: str | None = None


class FunctionCallFields(msgspec.Struct, kw_only=True, tag="function_call"):
    """A call that an assistant made."""

    name: str
    arguments: str
    call_id: str | None = None
    id: str | None = None


class FunctionOutputFields(msgspec.Struct, kw_only=True, tag="function_call_output"):
    """What a function answered."""

    call_id: str
    output: str
    id: str | None = None


class ReferenceFields(msgspec.Struct, kw_only=True, tag="item_reference"):
    """An item of the conversation, in the input of an answer."""

    id: str


ItemFields = MessageFields | FunctionCallFields | FunctionOutputFields


class AnswerFields(msgspec.Struct, kw_only=True):
    """What is said of one answer alone. The rest of `response` changes the session's settings for it."""

    conversation: Literal["auto", "none"] = "auto"
    input: list[ItemFields | ReferenceFields] | None = None
    metadata: dict[str, str] | None = None


OF_ANSWERS = frozenset(AnswerFields.__struct_fields__)
OF_SESSIONS = frozenset(
    (
        "instructions", "output_modalities", "audio", "tools", "tool_choice", "parallel_tool_calls",
        "max_output_tokens", "reasoning", "prompt", "sampling", "stage_sampling",
    )
)  # fmt: skip


class ClientEvent(msgspec.Struct, kw_only=True, tag_field="type"):
    """What all of them have."""

    event_id: str | None = None


class SessionUpdate(ClientEvent, tag="session.update"):
    """Change the session."""

    session: dict[str, Any]


class AudioAppend(ClientEvent, tag="input_audio_buffer.append"):
    """More sound."""

    audio: bytes  # base64 on the wire


class AudioCommit(ClientEvent, tag="input_audio_buffer.commit"):
    """The sound so far is a message."""


class AudioClear(ClientEvent, tag="input_audio_buffer.clear"):
    """Forget the sound so far."""


class ItemCreate(ClientEvent, tag="conversation.item.create"):
    """Add an item behind `previous_item_id` ("root": at the beginning; not given: at the end)."""

    item: ItemFields
    previous_item_id: str | None = None


class ItemRetrieve(ClientEvent, tag="conversation.item.retrieve"):
    """Show an item, its sound included."""

    item_id: str


class ItemDelete(ClientEvent, tag="conversation.item.delete"):
    """Forget an item."""

    item_id: str


class ItemTruncate(ClientEvent, tag="conversation.item.truncate"):
    """Of this answer, only so much was heard."""

    item_id: str
    content_index: int
    audio_end_ms: Annotated[int, msgspec.Meta(ge=0)]


class ResponseCreate(ClientEvent, tag="response.create"):
    """Answer."""

    response: dict[str, Any] | None = None


class ResponseCancel(ClientEvent, tag="response.cancel"):
    """Stop answering."""

    response_id: str | None = None


AnyClientEvent = (
    SessionUpdate
    | AudioAppend
    | AudioCommit
    | AudioClear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)


class Envelope(msgspec.Struct):
    """What is read of an event that is wrong: who it was."""

    event_id: Any = None
    type: Any = None
