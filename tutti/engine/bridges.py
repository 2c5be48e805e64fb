"""The bridges of a graph: what stands on each edge between two stages.

A bridge stands where its destination is: it is made of the source's checkpoint, which can be opened anywhere, and of
the destination's model. So chunks travel between devices as their stage emitted them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import Chunk, Graph, resolve

Bridge = Callable[[Chunk, dict[str, Any]], Chunk | None]
Ends = tuple[str, str]  # source, destination


def as_it_is(chunk: Chunk, state: dict[str, Any]) -> Chunk:
    """The bridge of an edge that names none."""
    return chunk


def bridges_to(models: Mapping[str, Any], graph: Graph, checkpoint: Checkpoint) -> dict[Ends, Bridge]:
    """The bridges of the edges that lead to the stages of `models`, by the ends of their edge."""
    return {
        (edge.source, edge.destination): as_it_is
        if edge.bridge is None
        else resolve(edge.bridge)(checkpoint, models[edge.destination])
        for edge in graph.edges
        if edge.destination in models
    }
