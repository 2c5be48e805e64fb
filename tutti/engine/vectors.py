"""Vectors of prompts from a model that writes: its last hidden states, gathered while a prompt is computed."""

from __future__ import annotations

import time
from collections.abc import Sequence as Items

from torch import Tensor

from tutti.engine.scheduler import Scheduled
from tutti.engine.sequence import Sequence
from tutti.errors import InvalidRequest
from tutti.models.encoders.pooling import Embedder, Gathered
from tutti.models.protocols import Vector
from tutti.request import Request


def begin(request: Request, maker: Embedder | None) -> Gathered | None:
    """What is gathered of a prompt at its beginning; None for one that is answered. Raises InvalidRequest."""
    if not request.pooled:
        return None
    if maker is None:
        raise InvalidRequest("this model makes no vectors", param="model")
    if (request.pooling.dimensions or 0) > maker.width:
        raise InvalidRequest(
            f"dimensions is {request.pooling.dimensions}, but the model's vectors have {maker.width} numbers",
            param="dimensions",
        )
    return Gathered(maker.config.kind)


def gather(batch: Items[Scheduled], hidden: Tensor) -> dict[str, Gathered]:
    """What is known of the prompts in `batch` after it, by request; `hidden` [tokens, width] are the step's rows."""
    found: dict[str, Gathered] = {}
    start = 0
    for item in batch:
        sequence, rows = item.sequence, hidden[start : start + item.count]
        start += item.count
        if sequence.gathered is not None:
            known = max(0, sequence.gathered.tokens - sequence.computed)  # computed again, after a preemption
            found[sequence.id] = sequence.gathered.with_rows(rows[known:].float())
    return found


def vector(sequence: Sequence, maker: Embedder) -> Vector:
    """The vector of a prompt that is computed."""
    timing, now = sequence.timing, time.monotonic()
    assert sequence.gathered is not None
    values = maker.finish(sequence.gathered.pooled.cpu(), sequence.request.pooling)
    waited = timing.first_step - timing.arrival
    return Vector(values, sequence.prompt_length, waited, now - timing.first_step)
