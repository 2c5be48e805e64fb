"""The responses that can be asked for and followed up: in memory, the latest ones, gone with the process.

Each holds the whole conversation that it ends, items of earlier responses included, so that any can go without
breaking those that follow it. A response belongs to the key it was asked for with.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from tutti.api.openai.responses.answers import Response
from tutti.api.openai.responses.items import Item
from tutti.errors import NotFound


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept. Bytes are of JSON, and what responses share counts for each of them."""

    responses: int = 1000
    bytes: int = 256_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A response, and the conversation up to its end."""

    response: Response
    conversation: tuple[Item, ...]
    size: int  # bytes

    @classmethod
    def of(cls, response: Response, given: list[Item], before: Kept | None) -> Kept:
        """What is kept of `response`, which answers `given` and follows `before`."""
        output: list[Item] = msgspec.to_builtins(response.output)
        earlier, size = ((), 0) if before is None else (before.conversation, before.size)
        size += len(msgspec.json.encode(given)) + 2 * len(msgspec.json.encode(response))
        return cls(response, (*earlier, *given, *output), size)


class ResponseStore:
    """Keeps the latest responses within limits; one that is used counts as late."""

    def __init__(self, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._kept: OrderedDict[tuple[str | None, str], Kept] = OrderedDict()  # by owner and id
        self._size = 0

    def put(self, owner: str | None, kept: Kept) -> None:
        """Keep a response; the oldest go, where it is too much. One that is too large by itself is not kept."""
        if kept.size > self._limits.bytes:
            return
        self._kept[owner, kept.response.id] = kept
        self._size += kept.size
        while len(self._kept) > self._limits.responses or self._size > self._limits.bytes:
            _, gone = self._kept.popitem(last=False)
            self._size -= gone.size

    def get(self, owner: str | None, name: str, param: str | None = None) -> Kept:
        """The response called `name`. Raises NotFound; `param` is the field that named it."""
        kept = self._kept.get((owner, name))
        if kept is None:
            raise NotFound(
                f"There is no response {name!r} here: the latest {self._limits.responses} are kept, until the server "
                "ends.",
                param=param,
            )
        self._kept.move_to_end((owner, name))
        return kept

    def delete(self, owner: str | None, name: str) -> None:
        """Forget a response. Raises NotFound."""
        self.get(owner, name)
        self._size -= self._kept.pop((owner, name)).size
