"""The models that a server was started with: they are in memory from its beginning to its end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tutti.errors import ConfigError, ModelNotFound
from tutti.gateway.backend import Backend, BackendModel
from tutti.gateway.cards import Card, Sheet, card_of, sheet_of
from tutti.gateway.lease import Account, Lease, Served, Wants
from tutti.gateway.limits import Admission, Limits
from tutti.gateway.models import Running
from tutti.hub.names import key_of


class FixedModels:
    """See `Models`."""

    def __init__(self, backends: Sequence[Backend], limits: Limits | None = None) -> None:
        """`limits` holds for each backend by itself. Raises ConfigError when two models share a name."""
        self.served = tuple(
            Served(Account(backend.models()[0].name, Admission(limits or Limits())), backend)
            for backend in backends
        )
        self._named: dict[str, tuple[Served, BackendModel]] = {}
        for served in self.served:
            served.metrics.loads = 1
            served.metrics.load_seconds = served.backend.info.load_time
            for model in served.backend.models():
                if model.name in self._named:
                    raise ConfigError(f"two models are served as {model.name!r}", param="served_model_name")
                self._named[model.name] = (served, model)
        self._keys = {key_of(name): name for name in reversed(self._named)}

    @property
    def accounts(self) -> tuple[Account, ...]:
        """See `Models`."""
        return tuple(served.account for served in self.served)

    async def cards(self) -> list[Card]:
        """See `Models`."""
        return [card_of(served.backend, model) for served, model in self._named.values()]

    async def card(self, name: str) -> Card:
        """See `Models`."""
        served, model = self._find(name)
        return card_of(served.backend, model)

    async def sheet(self, name: str) -> Sheet:
        """See `Models`."""
        served, model = self._find(name)
        return sheet_of(served.backend, model)

    async def running(self) -> list[Running]:
        """See `Models`."""
        return [Running(card_of(one.backend, model), one, math.inf) for one, model in self._named.values()]

    @asynccontextmanager
    async def lease(self, name: str, wants: Wants) -> AsyncIterator[Lease]:
        """See `Models`."""
        served, model = self._find(name)
        yield Lease(model, served)

    async def unload(self, name: str) -> None:
        """It stays: nobody could load it again. Raises ModelNotFound."""
        self._find(name)

    async def close(self) -> None:
        """See `Models`."""
        for served in self.served:
            await served.backend.close()

    def _find(self, name: str) -> tuple[Served, BackendModel]:
        found = self._named.get(name) if name else next(iter(self._named.values()), None)
        if found is None:
            found = self._named.get(self._keys.get(key_of(name), ""))
        if found is None:
            names = ", ".join(self._named) or "none"
            raise ModelNotFound(f"The model {name!r} is not served here. Served: {names}.", param="model")
        return found
