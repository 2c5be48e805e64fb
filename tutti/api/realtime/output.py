"""What an answer adds, as it comes: items, their parts, pieces of text, sound and calls, as OpenAI's events tell it.

    output_item.added, [item.added], content_part.added      the first piece of a message
    output_audio_transcript.delta, output_audio.delta ...    or output_text.delta ...
    output_item.added, function_call_arguments.delta ...     a call
    ... .done, content_part.done, [item.done], output_item.done

Those in brackets are of the conversation: answers that stand apart from it have none.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Protocol

from tutti.api.realtime.config import SessionConfig
from tutti.api.realtime.conversation import Conversation
from tutti.api.realtime.items import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    FunctionCall,
    Item,
    Message,
    SpokenPart,
    TextPart,
)
from tutti.api.realtime.sound import SoundOut
from tutti.events import AudioDelta
from tutti.models.parsers.base import ContentDelta, Delta, ToolCallDelta

_PIECE = 32_768  # bytes of sound in one event


class Emit(Protocol):
    """Sends an event of a type."""

    def __call__(self, kind: str, **fields: Any) -> None: ...


class Output:
    """The items of one answer."""

    def __init__(
        self, emit: Emit, response_id: str, config: SessionConfig, conversation: Conversation | None
    ) -> None:
        """`conversation` is None for an answer that stands apart."""
        self.items: list[Item] = []
        self._emit = emit
        self._id = response_id
        self._speaks = config.speaks
        self._conversation = conversation
        self._sound = SoundOut(config.audio.output.format, config.audio.output.speed)
        self._message: tuple[int, Message, SpokenPart | TextPart] | None = None
        self._call: tuple[int, FunctionCall] | None = None
        self._number = -1  # of the call, among the calls of the answer

    @property
    def seconds(self) -> float:
        """How much sound was given so far."""
        return self._sound.seconds

    @property
    def only_calls(self) -> bool:
        """Whether there are calls so far and nothing to be said aloud."""
        return self._call is not None and self._message is None

    def add(self, deltas: Iterable[Delta]) -> None:
        """Text, as the model's parser split it. Thoughts are not told."""
        for delta in deltas:
            if isinstance(delta, ContentDelta):
                self._text(delta.text)
            elif isinstance(delta, ToolCallDelta):
                self._calls(delta)

    def hear(self, event: AudioDelta) -> None:
        """Sound, of the message."""
        if self.only_calls:
            return
        index, message, part = self._open()
        self._pieces(index, message, self._sound.push(event))
        if isinstance(part, SpokenPart):
            part.seconds = self._sound.seconds

    def finish(self, status: str, *, whole: bool) -> None:
        """The end: items that are open get this status; `whole` if all that was written was also said."""
        if self._message is not None:
            self._close_message(status, whole)
        if self._call is not None:
            self._close_call()

    def _text(self, text: str) -> None:
        index, message, part = self._open()
        if isinstance(part, SpokenPart):
            part.transcript += text
            kind = "response.output_audio_transcript.delta"
        else:
            part.text += text
            kind = "response.output_text.delta"
        self._tell(kind, index, message, content_index=0, delta=text)

    def _pieces(self, index: int, message: Message, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            delta = base64.b64encode(data[start : start + _PIECE]).decode()
            self._tell("response.output_audio.delta", index, message, content_index=0, delta=delta)

    def _calls(self, delta: ToolCallDelta) -> None:
        if self._call is None or delta.index != self._number:
            if self._call is not None:
                self._close_call()
            call = FunctionCall(delta.name or "", status=IN_PROGRESS)
            self._call = (self._add(call), call)
            self._number = delta.index
        index, call = self._call
        if delta.arguments:
            call.arguments += delta.arguments
            kind = "response.function_call_arguments.delta"
            self._tell(kind, index, call, call_id=call.call_id, delta=delta.arguments)

    def _open(self) -> tuple[int, Message, SpokenPart | TextPart]:
        """The message that grows; opened by its first piece."""
        if self._message is None:
            message = Message("assistant", status=IN_PROGRESS)
            index = self._add(message)
            part = SpokenPart() if self._speaks else TextPart("output_text", "")
            message.parts.append(part)
            self._message = (index, message, part)
            self._tell("response.content_part.added", index, message, content_index=0, part=_shown(part))
        return self._message

    def _close_message(self, status: str, whole: bool) -> None:
        assert self._message is not None
        index, message, part = self._message
        self._message = None
        if isinstance(part, SpokenPart):
            self._pieces(index, message, self._sound.finish())
            part.seconds, part.whole = self._sound.seconds, whole
            self._tell("response.output_audio.done", index, message, content_index=0)
            kind, field, text = "response.output_audio_transcript.done", "transcript", part.transcript
            if self._conversation is not None:
                self._conversation.learn(part)
        else:
            kind, field, text = "response.output_text.done", "text", part.text
        self._tell(kind, index, message, content_index=0, **{field: text})
        self._tell("response.content_part.done", index, message, content_index=0, part=_shown(part))
        self._done(index, message, status)

    def _close_call(self) -> None:
        """A call whose arguments were cut short is told as incomplete, so that nobody runs it."""
        assert self._call is not None
        index, call = self._call
        self._call = None
        self._tell(
            "response.function_call_arguments.done",
            index,
            call,
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
        )
        self._done(index, call, COMPLETED if call.whole else INCOMPLETE)

    def _add(self, item: Item) -> int:
        """Begin an item; its place in the answer."""
        previous = None if self._conversation is None else self._conversation.add(item)
        self.items.append(item)
        index = len(self.items) - 1
        self._emit("response.output_item.added", response_id=self._id, output_index=index, item=item.shown())
        if self._conversation is not None:
            self._emit("conversation.item.added", previous_item_id=previous, item=item.shown())
        return index

    def _done(self, index: int, item: Item, status: str) -> None:
        item.status = status
        shown = item.shown()
        if self._conversation is not None:
            self._emit("conversation.item.done", item=shown)
        self._emit("response.output_item.done", response_id=self._id, output_index=index, item=shown)

    def _tell(self, kind: str, index: int, item: Item, **fields: Any) -> None:
        self._emit(kind, response_id=self._id, item_id=item.id, output_index=index, **fields)


def _shown(part: SpokenPart | TextPart) -> dict[str, Any]:
    """A part as its own events have it."""
    if isinstance(part, SpokenPart):
        return {"type": "audio", "transcript": part.transcript}
    return {"type": "text", "text": part.text}
