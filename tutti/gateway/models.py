"""Where the gateway has its models from: those it was started with (`fixed`), or any, on demand (`manager`)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tutti.gateway.cards import Card, Sheet
from tutti.gateway.lease import Account, Lease, Served, Wants


@dataclass(frozen=True, slots=True)
class Running:
    """A model in memory. `stays`: for how many seconds from now, if nobody uses it."""

    card: Card
    served: Served
    stays: float


class Models(Protocol):
    """Finds models by their names, whatever their case, with `:latest` or not."""

    @property
    def served(self) -> tuple[Served, ...]:
        """Those that are in memory."""
        ...

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Of everyone that ever was."""
        ...

    async def cards(self) -> list[Card]:
        """All that can be served, in memory or not."""
        ...

    async def card(self, name: str) -> Card:
        """One of them. Raises ModelNotFound."""
        ...

    async def sheet(self, name: str) -> Sheet:
        """The same at length. Raises ModelNotFound."""
        ...

    async def running(self) -> list[Running]:
        """Those in memory."""
        ...

    def lease(self, name: str, wants: Wants) -> AbstractAsyncContextManager[Lease]:
        """Have a model in memory, loaded if it must be, until the context ends.

        Raises ModelNotFound, QueueFull, and what keeps it from loading.
        """
        ...

    async def unload(self, name: str) -> None:
        """Have it go as soon as nobody uses it. Raises ModelNotFound."""
        ...

    async def close(self) -> None:
        """End everything; requests in flight fail."""
        ...
