"""The gateway: checks the key, finds the model by its name, and keeps it where it is while a call uses it.

It knows no client's protocol and no model. The usage ledger and quotas of a later day belong in
`Lease.generate_all`, where the caller, the request and its `Usage` meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from tutti.errors import TuttiError
from tutti.gateway.backend import Backend
from tutti.gateway.cards import Card, Sheet
from tutti.gateway.fixed import FixedModels
from tutti.gateway.keys import ApiKeys, Caller
from tutti.gateway.lease import Account, Lease, Served, Wants
from tutti.gateway.limits import Limits
from tutti.gateway.models import Models, Running
from tutti.gateway.traces import Traces

if TYPE_CHECKING:
    from tutti.engine.client import EngineStats


class Gateway:
    """Every door's way to the models."""

    def __init__(
        self, models: Models | Sequence[Backend], keys: ApiKeys | None = None, limits: Limits | None = None
    ) -> None:
        """`models` are on demand, or backends that are there already, each with `limits` of its own.

        Raises ConfigError when two models share a name.
        """
        self.keys = keys or ApiKeys()
        self._models: Models = FixedModels(models, limits) if isinstance(models, Sequence) else models

    def authorize(self, key: str | None) -> Caller:
        """Who holds `key`. Raises Unauthorized."""
        return self.keys.authorize(key)

    @property
    def served(self) -> tuple[Served, ...]:
        """The models in memory."""
        return self._models.served

    @property
    def accounts(self) -> tuple[Account, ...]:
        """What is counted of every model that was ever in memory."""
        return self._models.accounts

    def lease(self, name: str, wants: Wants | None = None) -> AbstractAsyncContextManager[Lease]:
        """The model called `name`, loaded if it must be, which stays until the context ends.

        Where the server was started with its models, an empty name means the first. Raises ModelNotFound, QueueFull,
        and what keeps it from loading.
        """
        return self._models.lease(name, wants or Wants())

    async def cards(self) -> list[Card]:
        """Every model that can be served, in memory or not."""
        return await self._models.cards()

    async def card(self, name: str) -> Card:
        """One of them. Raises ModelNotFound."""
        return await self._models.card(name)

    async def sheet(self, name: str) -> Sheet:
        """The same at length. Raises ModelNotFound."""
        return await self._models.sheet(name)

    async def running(self) -> list[Running]:
        """The models in memory, and for how long."""
        return await self._models.running()

    async def unload(self, name: str) -> None:
        """Have a model go as soon as nobody uses it. Raises ModelNotFound."""
        await self._models.unload(name)

    async def stats(self) -> Mapping[str, EngineStats]:
        """What each engine is doing, by its main model's name. Raises EngineDied."""
        found: dict[str, EngineStats] = {}
        for served in self.served:
            try:
                found[served.name] = await served.backend.stats()
            except TuttiError:
                if served in self.served:  # it was not unloaded meanwhile
                    raise
        return found

    def traces(self) -> list[Traces]:
        """The traces of the requests that each backend answered lately, where it keeps any."""
        return [traces for served in self.served for traces in served.backend.all_traces]

    async def reset_prefix_cache(self) -> None:
        """Forget cached prefixes everywhere."""
        for served in self.served:
            await served.backend.reset_prefix_cache()

    async def close(self) -> None:
        """Close every backend."""
        await self._models.close()
