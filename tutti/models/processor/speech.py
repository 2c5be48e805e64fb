"""What doors ask of a model that writes down what is said: the interface, and its answers. Torch-free.

A media reader (`models.processor.media`) whose model can do so is a `Transcriber`, too.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tutti.events import Event
from tutti.request import Request

if TYPE_CHECKING:
    import numpy as np

    from tutti.models.processor.processor import Processor

RATE = 16_000  # samples a second that every encoder here takes
HOP = 160  # samples to a frame of a spectrogram, where a checkpoint says nothing else
Generate = Callable[[Request], AsyncGenerator[Event, None]]  # a backend's


def frames_of(samples: int, hop: int = HOP) -> int:
    """The frames of a recording: one begins at every hop."""
    return -(-samples // hop)


@dataclass(frozen=True, slots=True)
class Task:
    """What is wanted of a recording.

    `language` is a code ("en"), None where it is not known; `name` "transcribe" or "translate" (to English);
    `timestamps` asks for segments with their times, `words` for those of words, too; `prompt` is text that could have
    come before. `temperature` is that of the first attempt; at 0, what is doubtful is tried again at higher ones.
    """

    language: str | None = None
    name: str = "transcribe"
    timestamps: bool = False
    words: bool = False
    prompt: str = ""
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Word:
    """A word, with the punctuation that belongs to it, from `start` to `end` (seconds)."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of what was said: `text` from `start` to `end` (seconds), its `tokens`, and its `words` if asked for.

    `logprob` is the mean log-probability of the tokens of its window, `window` where that begins (seconds),
    `temperature` how it was sampled, `silence` the probability that nobody speaks there, if that was in doubt.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    logprob: float
    window: float
    temperature: float = 0.0
    silence: float | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcription:
    """A whole recording of `seconds`; `language` is None where the model does not tell."""

    text: str
    language: str | None
    seconds: float
    segments: tuple[Segment, ...]


@runtime_checkable
class Transcriber(Protocol):
    """A model's way of writing down recordings of any length."""

    rate: int  # Hz of the samples it takes

    async def detect_language(
        self, processor: Processor, generate: Generate, samples: np.ndarray
    ) -> str | None:
        """The code of the language that is spoken at the beginning; None where the model cannot tell."""
        ...

    def segments(
        self, processor: Processor, generate: Generate, samples: np.ndarray, task: Task
    ) -> AsyncGenerator[Segment, None]:
        """What is said in `samples` (float32), as it is found; `task.language` is known. Raises TuttiError."""
        ...


async def transcribe(
    transcriber: Transcriber, processor: Processor, generate: Generate, samples: np.ndarray, task: Task
) -> Transcription:
    """All of `samples`, as `task` asks; see `Transcriber`. Raises TuttiError."""
    found = [segment async for segment in transcriber.segments(processor, generate, samples, task)]
    return Transcription(joined(found), task.language, len(samples) / transcriber.rate, tuple(found))


def joined(segments: Sequence[Segment]) -> str:
    """The text of all segments."""
    return "".join(segment.text for segment in segments).strip()


def compression(text: str) -> float:
    """How much shorter the text gets by compression; what repeats itself does much."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
