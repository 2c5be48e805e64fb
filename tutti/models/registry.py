"""Which family serves a checkpoint: a folder with a `config.py` and a GRAPH is registered by being there, nowhere else.

A family of several has GRAPHS. No torch: families' packages are imported, not their models.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tutti.models
from tutti.errors import CheckpointError
from tutti.graph import Graph, Kind, Stage, resolve


@functools.cache
def graphs() -> tuple[Graph, ...]:
    """Every family's graph, by the folder's name."""
    found: list[Graph] = []
    for root in tutti.models.__path__:
        for module in pkgutil.iter_modules([root]):
            if (Path(root) / module.name / "config.py").exists():
                family = vars(importlib.import_module(f"{tutti.models.__name__}.{module.name}"))
                found += family.get("GRAPHS") or (family["GRAPH"],)
    return tuple(found)


def find_graph(config: Mapping[str, Any], folder: Path | None = None) -> Graph:
    """The graph that serves the checkpoint in `folder`, or any with this config.json.

    A language model whose folder says that it makes vectors does that and nothing else. Raises as `family_graph`.
    """
    graph = family_graph(config)
    if folder is None or [stage.kind for stage in graph.stages] != [Kind.AUTOREGRESS]:
        return graph
    from tutti.models.processor.pooling import is_sentence_model  # whose room reads graphs itself

    return _VECTORS if is_sentence_model(folder, config) else graph


_HOME = "tutti.models.encoders.decoder"
_VECTORS = Graph(
    "vectors",
    (),
    (
        Stage(
            "encoder", Kind.ONCE, f"{_HOME}:build", f"{_HOME}:describe", output="embedding", inputs=("text",)
        ),
    ),
)


def family_graph(config: Mapping[str, Any]) -> Graph:
    """The graph of the family that a checkpoint with this config.json is of.

    What no graph names is served by the first one that claims it. Raises CheckpointError when nothing serves it.
    """
    architectures = config.get("architectures") or ()
    if not architectures:
        raise CheckpointError("config.json names no architectures, so it cannot be told what model this is")
    for graph in graphs():
        if any(name in graph.architectures for name in architectures):
            speaks = graph.switch is None or config.get(graph.switch) is not False
            return graph if speaks else graph.silent()
    for graph in graphs():
        if graph.claims is not None and resolve(graph.claims)(config):
            return graph
    known = sorted(name for graph in graphs() for name in graph.architectures)
    raise CheckpointError(f"{', '.join(architectures)} is not supported; supported: {', '.join(known)}")
