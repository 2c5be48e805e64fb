"""A model that is in memory: what the gateway keeps for it, and the hold that a call has on it.

While a lease is held, the model stays where it is. Its requests go through the lease: they take places in the bounded
queue, and what happens to them is counted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import msgspec

from tutti.errors import TuttiError
from tutti.events import Event
from tutti.gateway.backend import Backend, BackendModel
from tutti.gateway.keys import ANYONE, Caller
from tutti.gateway.limits import Admission
from tutti.gateway.merge import merge
from tutti.gateway.metrics import ModelMetrics, Watch
from tutti.request import Request


@dataclass(frozen=True, slots=True)
class Account:
    """What is counted of a model, also while it is not in memory. `name` is its main one."""

    name: str
    admission: Admission
    metrics: ModelMetrics = field(default_factory=ModelMetrics)


@dataclass(frozen=True, slots=True)
class Served:
    """A model in memory."""

    account: Account
    backend: Backend

    @property
    def name(self) -> str:
        """Its main name."""
        return self.account.name

    @property
    def admission(self) -> Admission:
        """Its queue."""
        return self.account.admission

    @property
    def metrics(self) -> ModelMetrics:
        """Its counts and times."""
        return self.account.metrics


@dataclass(frozen=True, slots=True)
class Wants:
    """What a call wants of a model besides its being there.

    `context`: room for so many tokens; a model that was loaded with less is loaded anew where that can be, None: as it
    is. `stays`: for how many seconds it shall stay when nobody uses it, None: as was said before.
    """

    context: int | None = None
    stays: float | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on a model, under the name that it was asked by. `waited` are the seconds until it was there."""

    model: BackendModel
    served: Served
    waited: float = 0.0

    @property
    def backend(self) -> Backend:
        """What answers."""
        return self.served.backend

    async def prepare(self, request: Request) -> Request:
        """See `Backend.prepare`, for callers who need the prompt's tokens before the answer."""
        return await self.backend.prepare(request)

    async def generate(self, request: Request, caller: Caller = ANYONE) -> AsyncGenerator[Event, None]:
        """The events of one request. Raises as `generate_all` does."""
        async with aclosing(self.generate_all((request,), caller)) as events:
            async for _, event in events:
                yield event

    async def generate_all(
        self, requests: Sequence[Request], caller: Caller = ANYONE
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """(which request, event) of requests that came in together.

        However many they are, they take no more places than may run at once, so that a long list leaves room for
        others. Raises Busy, and what `Backend.prepare` raises; what fails later is a `Failed` event. Closing the
        iterator cancels all of them.
        """
        served = self.served
        n = max(request.sampling.n for request in requests)
        window = min(len(requests), max(served.admission.limits.max_num_seqs // n, 1))
        with served.admission.places(window * n):
            watch = Watch(served.metrics, sum(request.sampling.n for request in requests))
            sources = [partial(served.backend.generate, _signed(request, caller)) for request in requests]
            try:
                async with aclosing(merge(sources, window)) as events:
                    async for prompt, event in events:
                        watch.see(prompt, event)
                        yield prompt, event
            except TuttiError:  # refused before it began: nothing to count
                watch.forget()
                raise
            finally:
                watch.finish()


def _signed(request: Request, caller: Caller) -> Request:
    """`request` with the call it came by, where it came by one."""
    if not caller.call:
        return request
    return msgspec.structs.replace(request, call=caller.call, traceparent=caller.traceparent)
