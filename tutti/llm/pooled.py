"""Vectors and scores for `LLM`: how its requests for them are made, and what is gathered of each."""

from __future__ import annotations

from collections.abc import Sequence

from tutti.errors import InvalidRequest
from tutti.events import Done, Embedding, Event, Failed, Usage
from tutti.request import PoolingParams, Request, Tokens


class VectorCollector:
    """Gathers the events of one prompt that becomes a vector."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.prompt = [token for part in request.parts if isinstance(part, Tokens) for token in part.ids]
        self.vector: tuple[float, ...] = ()
        self.usage: Usage | None = None
        self.open = 1
        self._error: Failed | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The engine's requests."""
        return (self.request.id,)

    def take(self, event: Event) -> None:
        """One of the engine's events."""
        match event:
            case Embedding(vector=vector):
                self.vector = vector
            case Usage():
                self.usage = event
            case Done():
                self.open = 0
            case Failed():
                self._error = event
                self.open = 0

    def result(self) -> tuple[float, ...]:
        """The vector. Raises the request's error."""
        if self._error is not None:
            raise self._error.error.error()
        return self.vector


def wishes_of(
    pooling_params: PoolingParams | Sequence[PoolingParams] | None, count: int
) -> list[PoolingParams]:
    """One for each of `count` prompts. Raises InvalidRequest."""
    if pooling_params is None or isinstance(pooling_params, PoolingParams):
        return [pooling_params or PoolingParams()] * count
    if len(pooling_params) != count:
        raise InvalidRequest(
            f"{count} prompts but {len(pooling_params)} pooling_params; give one, or one for each"
        )
    return list(pooling_params)
