"""Models by the names that Ollama's clients give them, and its words for one that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tutti.api.endpoint import Call
from tutti.errors import ModelNotFound
from tutti.gateway.cards import Card
from tutti.gateway.lease import Lease, Wants

_LATEST = ":latest"


async def lease(call: Call, name: str, wants: Wants) -> Lease:
    """The model called `name`, in memory until the call ends. Raises ModelNotFound, and as `Call.lease` does."""
    with looking_for(name):
        return await call.lease(name, wants)


async def find(call: Call, name: str) -> Card:
    """What is known of the model called `name`. Raises ModelNotFound."""
    with looking_for(name):
        return await call.gateway.card(name)


@contextmanager
def looking_for(name: str) -> Iterator[None]:
    """Within it, a model that is not found is told in Ollama's words; one without a name is not looked for."""
    try:
        if not name:
            raise ModelNotFound("no name was given")
        yield
    except ModelNotFound as error:
        raise ModelNotFound(f"model '{name}' not found", param="model") from error


def full(name: str) -> str:
    """The name with its tag."""
    return name if ":" in name.rpartition("/")[2] else name + _LATEST
