"""From the chunks of output stages to the events that leave the graph."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from tutti.engine.stage import TokenOutput
from tutti.events import Done, Event, PromptLogprobs, TextDelta, Usage
from tutti.graph import Chunk


def events_of(chunk: Chunk, last: bool) -> list[Event]:
    """The events a chunk of an output stage becomes. `last`: no other output of its request is still to come."""
    return _encode(chunk.payload, chunk, last)


@singledispatch
def _encode(payload: Any, chunk: Chunk, last: bool) -> list[Event]:
    """An event that a stage made itself passes as it is; `Done` closes the request with its last output."""
    events: list[Event] = [payload]
    if chunk.final and last:
        events.append(Done(chunk.request, "stop"))
    return events


@_encode.register
def _(payload: TokenOutput, chunk: Chunk, last: bool) -> list[Event]:
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
        if last:
            events.append(Done(chunk.request, ending.reason, ending.stop))
    return events
