"""The gateway: checks the key and the queue, chooses the backend by the model's name, watches the events.

It knows no client's protocol and no model. The usage ledger and quotas of a later day belong in `generate_all`, where
the caller, the request and its `Usage` meet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tutti.errors import ConfigError, ModelNotFound, TuttiError
from tutti.events import Event
from tutti.gateway.backend import Backend, BackendModel
from tutti.gateway.keys import ANYONE, ApiKeys, Caller
from tutti.gateway.limits import Admission, Limits
from tutti.gateway.merge import merge
from tutti.gateway.metrics import ModelMetrics, Watch
from tutti.gateway.traces import Traces
from tutti.request import Request

if TYPE_CHECKING:
    from tutti.engine.client import EngineStats


@dataclass(frozen=True, slots=True)
class Served:
    """A backend with what the gateway keeps for it. `name` is its main model's."""

    name: str
    backend: Backend
    admission: Admission
    metrics: ModelMetrics = field(default_factory=ModelMetrics)


class Gateway:
    """Every door's way to the models."""

    def __init__(
        self, backends: Sequence[Backend], keys: ApiKeys | None = None, limits: Limits | None = None
    ) -> None:
        """`limits` holds for each backend by itself. Raises ConfigError when two models share a name."""
        self.keys = keys or ApiKeys()
        self.served = tuple(
            Served(backend.models()[0].name, backend, Admission(limits or Limits())) for backend in backends
        )
        self._by_name: dict[str, tuple[Served, BackendModel]] = {}
        for served in self.served:
            for model in served.backend.models():
                if model.name in self._by_name:
                    raise ConfigError(f"two models are served as {model.name!r}", param="served_model_name")
                self._by_name[model.name] = (served, model)

    def authorize(self, key: str | None) -> Caller:
        """Who holds `key`. Raises Unauthorized."""
        return self.keys.authorize(key)

    def models(self) -> tuple[BackendModel, ...]:
        """Every name that is served."""
        return tuple(model for _, model in self._by_name.values())

    def model(self, name: str) -> BackendModel:
        """The model called `name`; an empty name means the first. Raises ModelNotFound."""
        return self._find(name)[1]

    def backend(self, name: str) -> Backend:
        """Where the model called `name` is served. Raises ModelNotFound."""
        return self._find(name)[0].backend

    async def prepare(self, request: Request) -> Request:
        """See `Backend.prepare`, for callers who need the prompt's tokens before the answer."""
        return await self.backend(request.model).prepare(request)

    async def generate(self, request: Request, caller: Caller = ANYONE) -> AsyncGenerator[Event, None]:
        """The events of one request. Raises as `generate_all` does."""
        async with aclosing(self.generate_all((request,), caller)) as events:
            async for _, event in events:
                yield event

    async def generate_all(
        self, requests: Sequence[Request], caller: Caller = ANYONE
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """(which request, event) of requests that came in together, for one model.

        However many they are, they take no more places than may run at once, so that a long list leaves room for
        others. Raises ModelNotFound, Busy, and what `Backend.prepare` raises; what fails later is a `Failed` event.
        Closing the iterator cancels all of them.
        """
        served, _ = self._find(requests[0].model)
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

    async def stats(self) -> Mapping[str, EngineStats]:
        """What each backend's engine is doing, by its main model's name. Raises EngineDied."""
        return {served.name: await served.backend.stats() for served in self.served}

    def traces(self) -> list[Traces]:
        """The traces of the requests that each backend answered lately, where it keeps any."""
        return [traces for served in self.served for traces in served.backend.all_traces]

    async def reset_prefix_cache(self) -> None:
        """Forget cached prefixes everywhere."""
        for served in self.served:
            await served.backend.reset_prefix_cache()

    async def close(self) -> None:
        """Close every backend."""
        for served in self.served:
            await served.backend.close()

    def _find(self, name: str) -> tuple[Served, BackendModel]:
        found = self._by_name.get(name) if name else next(iter(self._by_name.values()), None)
        if found is None:
            names = ", ".join(self._by_name) or "none"
            raise ModelNotFound(f"The model {name!r} is not served here. Served: {names}.", param="model")
        return found


def _signed(request: Request, caller: Caller) -> Request:
    """`request` with the call it came by, where it came by one."""
    if not caller.call:
        return request
    return msgspec.structs.replace(request, call=caller.call, traceparent=caller.traceparent)
