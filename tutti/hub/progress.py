"""What a pull, a push or a creation tells while it goes on: values for a terminal's bars and for NDJSON alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing to say. `total` and `completed` are bytes of the blob `digest`; a status alone has neither."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields that say something, as Ollama's API sends them."""
        if not self.digest:
            return {"status": self.status}
        found: dict[str, Any] = {"status": self.status, "digest": self.digest, "total": self.total}
        return found | {"completed": self.completed} if self.completed else found


Tell = Callable[[Progress], None]
