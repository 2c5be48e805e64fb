"""An answer that is spoken: `message.audio` whole, `delta.audio` in a stream, as OpenAI's clients read them.

What would be the message's content is then the transcript. A stream's pieces, joined, are one file of the format that
was asked for.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from tutti.api.openai import answers
from tutti.events import AudioDelta

if TYPE_CHECKING:
    from tutti.media.audio_writer import AudioWriter


class SpokenStream:
    """The audio of one choice of a stream, in the format `format` of `media.audio_writer`."""

    def __init__(self, format: str) -> None:
        self._format = format
        self._id: str | UnsetType = _new_id()
        self._writer: AudioWriter | None = None

    def text(self, delta: answers.Delta) -> answers.Delta:
        """`delta` with its content as a piece of the transcript."""
        if not isinstance(delta.content, str) or not delta.content:
            return delta
        audio = answers.Audio(self._once(), transcript=delta.content)
        return answers.Delta(role=delta.role, tool_calls=delta.tool_calls, audio=audio)

    def sound(self, event: AudioDelta) -> list[answers.Delta]:
        """A piece of sound; nothing while the format's encoder keeps it back."""
        from tutti.media.audio_writer import AudioWriter  # NumPy: who reads text alone never waits for it
        from tutti.media.pcm import from_pcm16

        if self._writer is None:
            self._writer = AudioWriter(self._format, event.rate)
        return self._piece(self._writer.push(from_pcm16(event.pcm)))

    def finish(self) -> list[answers.Delta]:
        """What was kept back, and when the sound can no longer be referred to: at once, since it is kept nowhere."""
        last = self._piece(self._writer.finish()) if self._writer is not None else []
        end = answers.Audio(self._once(), expires_at=int(time.time()))
        return [*last, answers.Delta(audio=end)]

    def _piece(self, data: bytes) -> list[answers.Delta]:
        if not data:
            return []
        return [answers.Delta(audio=answers.Audio(self._once(), data=base64.b64encode(data).decode()))]

    def _once(self) -> str | UnsetType:
        """The id, in the first piece alone."""
        known, self._id = self._id, UNSET
        return known


def whole(sounds: Sequence[AudioDelta], format: str, transcript: str) -> answers.Audio:
    """The audio of an answer that is not streamed, as one file."""
    from tutti.media.audio_writer import write_sounds

    data = base64.b64encode(write_sounds(sounds, format)).decode()
    return answers.Audio(_new_id(), data, int(time.time()), transcript)


def _new_id() -> str:
    return f"audio_{uuid.uuid4().hex}"
