"""Results worth keeping: what an encoder made of a picture, by the picture's digest, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from torch import Tensor


class Kept:
    """Payloads (tensors, or tuples of tensors) of at most `room` bytes in all."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.bytes = 0
        self.queries = 0
        self.hits = 0
        self._payloads: OrderedDict[Hashable, Any] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        """Whether the payload of `key` is here; None never is."""
        return key in self._payloads

    def get(self, key: Hashable) -> Any:
        """The payload of `key`, which must be here."""
        self.queries += 1
        self.hits += 1
        self._payloads.move_to_end(key)
        return self._payloads[key]

    def put(self, key: Hashable, payload: Any) -> None:
        """Keep `payload` if it fits at all, and let go what was not asked for longest."""
        self.queries += 1
        size = payload_bytes(payload)
        if size > self.room or key in self._payloads:
            return
        self._payloads[key] = payload
        self.bytes += size
        while self.bytes > self.room:
            _, old = self._payloads.popitem(last=False)
            self.bytes -= payload_bytes(old)

    def clear(self) -> None:
        """Let everything go."""
        self._payloads.clear()
        self.bytes = 0


def payload_bytes(payload: Any) -> int:
    """Bytes of a tensor, or of all tensors of a tuple or list."""
    if isinstance(payload, Tensor):
        return payload.nbytes
    return sum(map(payload_bytes, payload)) if isinstance(payload, tuple | list) else 0
