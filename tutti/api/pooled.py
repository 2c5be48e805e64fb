"""Vectors and scores of several texts, for any door: requests that run together, and what they gave, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing

from tutti.api.endpoint import Call
from tutti.events import Embedding, Failed, Usage
from tutti.gateway.lease import Lease
from tutti.request import Part, PoolingParams, Request


class Pooled:
    """What was asked together. `tokens` are those of all prompts; `waited` is seconds until the first step."""

    def __init__(self, count: int) -> None:
        self.vectors: list[tuple[float, ...]] = [()] * count
        self.tokens = 0
        self.waited = 0.0


async def pool(
    call: Call,
    leased: Lease,
    parts: Sequence[Part],
    modality: str,
    wishes: PoolingParams,
    *,
    name: str,
    priority: int = 0,
    context: int | None = None,
) -> Pooled:
    """The vectors of `parts`, of which there is one at least; `name` begins the requests' ids.

    Raises InvalidRequest for a model that does not give `modality`, the error of the first request that fails, and what
    `Lease.generate_all` raises.
    """
    leased.model.require(modality)
    arrival = time.time()
    requests = [
        Request(
            id=f"{name}-{number}",
            parts=(part,),
            pooling=wishes,
            modalities=(modality,),
            model=leased.model.name,
            priority=priority,
            arrival=arrival,
            context=context,
        )
        for number, part in enumerate(parts)
    ]
    found = Pooled(len(requests))
    waits = []
    async with aclosing(leased.generate_all(requests, call.caller)) as events:
        async for number, event in events:
            if isinstance(event, Failed):
                raise event.error.error()
            if isinstance(event, Embedding):
                found.vectors[number] = event.vector
            elif isinstance(event, Usage):
                found.tokens += event.prompt_tokens
                waits.append(event.queue_time)
    found.waited = min(waits, default=0.0)
    return found
