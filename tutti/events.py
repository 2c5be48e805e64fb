"""What leaves a graph: one stream of events per request, whatever the modality.

Every door is a thin encoder of this stream. A stream is any number of deltas, then `Usage`, then exactly one of
`Done` or `Failed`. Values only.
"""

from __future__ import annotations

import msgspec

from tutti import errors


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token's log-probability (natural logarithm), its rank (1 = most likely) and the most likely alternatives."""

    token: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """New tokens of one output. The engine fills `tokens`; the processor adds the `text` that became final.

    `logprobs`, when asked for, has one entry per token. `index` tells outputs apart when n > 1.
    """

    request: str
    tokens: tuple[int, ...]
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    index: int = 0


class PromptLogprobs(msgspec.Struct, frozen=True, tag="prompt_logprobs"):
    """Log-probabilities of the prompt's own tokens, from the second token on."""

    request: str
    logprobs: tuple[TokenLogprob, ...]
    index: int = 0


class TokenTimes(msgspec.Struct, frozen=True, tag="times"):
    """When each token of an output was said: seconds since the beginning of the recording, one for each token."""

    request: str
    seconds: tuple[float, ...]
    index: int = 0


class AudioDelta(msgspec.Struct, frozen=True, tag="audio"):
    """Sound: 16-bit little-endian PCM at `rate` Hz, of several `channels` one sample of each in turn.

    Speech has one channel. `note` says how a sound was made, as JSON; the file carries it.
    """

    request: str
    pcm: bytes
    rate: int
    index: int = 0
    channels: int = 1
    note: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.pcm) / 2 / self.channels / self.rate


class ImageDone(msgspec.Struct, frozen=True, tag="image"):
    """A finished picture (PNG bytes), or a preview of one that is still being drawn."""

    request: str
    png: bytes
    preview: bool = False
    index: int = 0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a stage is with the request: `done` of `total` steps."""

    request: str
    stage: str
    done: int
    total: int
    index: int = 0


class VideoDelta(msgspec.Struct, frozen=True, tag="video"):
    """Frames of a video, in order: RGB bytes of [frames, height, width, 3], `shape` without the last."""

    request: str
    frames: bytes
    shape: tuple[int, int, int]
    rate: float  # frames per second
    note: str = ""  # how the video was made, as JSON
    index: int = 0


class Embedding(msgspec.Struct, frozen=True, tag="embedding"):
    """A vector of one input; of a model that scores, its scores: one, or one for each class."""

    request: str
    vector: tuple[float, ...]
    index: int = 0


class Usage(msgspec.Struct, frozen=True, tag="usage"):
    """What the request cost. Times are in seconds."""

    request: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_time: float = 0.0  # arrival to first step
    prefill_time: float = 0.0  # first step to first token
    decode_time: float = 0.0  # first token to last
    index: int = 0


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The end of an output. `reason`: stop, length, tool_calls or cancelled; `stop` is what stopped it, if anything."""

    request: str
    reason: str
    stop: int | str | None = None
    index: int = 0


class ErrorValue(msgspec.Struct, frozen=True):
    """A `TuttiError` as a value that crosses processes."""

    kind: str
    message: str
    param: str | None = None
    stage: str | None = None

    @classmethod
    def of(cls, error: errors.TuttiError) -> ErrorValue:
        """The value of `error`."""
        return cls(type(error).__name__, error.message, error.param, error.stage)

    def error(self) -> errors.TuttiError:
        """The error this is the value of; a kind that is not known here becomes a plain `TuttiError`."""
        kind = vars(errors).get(self.kind, errors.TuttiError)
        if issubclass(kind, errors.Busy):
            return kind(self.message)
        return kind(self.message, param=self.param, stage=self.stage)


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request ended with an error."""

    request: str
    error: ErrorValue
    index: int = 0


Event = (
    TextDelta
    | PromptLogprobs
    | TokenTimes
    | AudioDelta
    | ImageDone
    | Progress
    | VideoDelta
    | Embedding
    | Usage
    | Done
    | Failed
)
