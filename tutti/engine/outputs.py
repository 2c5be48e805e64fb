"""From the chunks of output stages to the events that leave the graph."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from tutti.engine.stage import TokenOutput
from tutti.events import (
    AudioDelta,
    Embedding,
    Event,
    ImageDone,
    PromptLogprobs,
    TextDelta,
    Usage,
    VideoDelta,
)
from tutti.graph import Chunk
from tutti.media.image import write_png
from tutti.media.pcm import to_pcm16
from tutti.models.protocols import Film, Picture, Sound, Vector

_PIECE = 16_000_000  # bytes of a film that cross to the front at once


def events_of(chunk: Chunk) -> list[Event]:
    """The events a chunk of an output stage becomes. The loop closes the stream, after the last output's."""
    return _encode(chunk.payload, chunk)


@singledispatch
def _encode(payload: Any, chunk: Chunk) -> list[Event]:
    """An event that a stage made itself passes as it is."""
    return [payload]


@_encode.register
def _(payload: Sound, chunk: Chunk) -> list[Event]:
    samples = payload.samples.float().cpu().numpy()
    channels = samples.shape[1] if samples.ndim == 2 else 1
    return [AudioDelta(chunk.request, to_pcm16(samples), payload.rate, channels=channels, note=payload.note)]


@_encode.register
def _(payload: Picture, chunk: Chunk) -> list[Event]:
    return [ImageDone(chunk.request, write_png(payload.pixels, payload.note), payload.preview)]


@_encode.register
def _(payload: Film, chunk: Chunk) -> list[Event]:
    count, height, width, _ = payload.frames.shape
    step = max(1, _PIECE // (height * width * 3))
    return [
        VideoDelta(chunk.request, piece.tobytes(), (len(piece), height, width), payload.rate, payload.note)
        for piece in (payload.frames[start : start + step] for start in range(0, count, step))
    ]


@_encode.register
def _(payload: Vector, chunk: Chunk) -> list[Event]:
    usage = Usage(chunk.request, payload.tokens, 0, 0, payload.queue_time, payload.time)
    return [Embedding(chunk.request, tuple(payload.values.tolist())), usage]


@_encode.register
def _(payload: TokenOutput, chunk: Chunk) -> list[Event]:
    events: list[Event] = []
    if payload.prompt_logprobs is not None:
        events.append(PromptLogprobs(chunk.request, payload.prompt_logprobs))
    if payload.tokens:
        events.append(TextDelta(chunk.request, payload.tokens, logprobs=payload.logprobs))
    if payload.ending is not None:
        ending = payload.ending
        events.append(
            Usage(
                chunk.request,
                ending.prompt_tokens,
                ending.cached_tokens,
                ending.completion_tokens,
                ending.queue_time,
                ending.prefill_time,
                ending.decode_time,
            )
        )
    return events
