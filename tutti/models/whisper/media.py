"""Whisper's way with recordings: one beside each prompt, of a window at most. No torch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tutti.errors import InvalidMedia, InvalidRequest
from tutti.media.audio import read_audio
from tutti.models.processor.media import ReadMedium, array
from tutti.models.processor.speech import RATE, Generate, Segment, Task
from tutti.models.whisper.config import window_rows
from tutti.models.whisper.tokens import SpeechTokens, read_tokens
from tutti.models.whisper.transcribe import Windows
from tutti.request import Media, MediaInput

if TYPE_CHECKING:
    from tutti.models.processor.processor import Processor

UNIT = 320  # samples to a row of the encoder, and from one time to the next


class Reader:
    """Implements `models.processor.media.MediaReader` and `models.processor.speech.Transcriber`."""

    modalities = frozenset({"audio"})
    rate = RATE

    def __init__(self, tokens: SpeechTokens, rows: int, context: int) -> None:
        """A window is `rows` rows of the encoder; `context` are the decoder's tokens."""
        self.tokens = tokens
        self.window = rows * UNIT  # samples
        self.context = context

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`."""
        return _heard(read_audio(medium.data, RATE, most_seconds=self.window / RATE))

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        if len(media) != 1:
            raise InvalidRequest(f"the model takes one recording with a request, not {len(media)}")
        return ids, [media[0].at(())]

    async def detect_language(
        self, processor: Processor, generate: Generate, samples: np.ndarray
    ) -> str | None:
        """See `Transcriber.detect_language`."""
        return await self._windows(processor, generate).language(recording(samples[: self.window]))

    def segments(
        self, processor: Processor, generate: Generate, samples: np.ndarray, task: Task
    ) -> AsyncGenerator[Segment, None]:
        """See `Transcriber.segments`."""
        return self._windows(processor, generate).segments(samples, RATE, task, recording)

    def _windows(self, processor: Processor, generate: Generate) -> Windows:
        tokens = self.tokens
        if tokens.previous is None:  # older checkpoints name it in the tokenizer alone
            tokens = replace(tokens, previous=processor.tokenizer.token_id("<|startofprev|>"))
        return Windows(processor, generate, tokens, self.context, self.window, UNIT)


def recording(samples: np.ndarray) -> MediaInput:
    """A window of a recording, samples float32 at 16 kHz. Raises InvalidMedia when there are none."""
    return _heard(samples).at(())


def _heard(samples: np.ndarray) -> ReadMedium:
    if not len(samples):
        raise InvalidMedia("the recording is empty")
    return ReadMedium("audio", {"samples": array(samples)}, 0)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    context = config.get("max_target_positions") or 448
    return Reader(read_tokens(folder, config), window_rows(config), context)
