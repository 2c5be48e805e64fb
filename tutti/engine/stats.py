"""What the stages of a loop did, as values for those who watch."""

from __future__ import annotations

from tutti.engine.autoregress import Autoregress
from tutti.engine.denoise import Denoise
from tutti.engine.loop import Loop
from tutti.engine.once import Once
from tutti.engine.wire import StageStats
from tutti.graph import Graph


def stage_stats(graph: Graph, loop: Loop) -> dict[str, StageStats]:
    """The figures of each stage of `graph` that is in `loop`, by name."""
    found = {}
    for stage in graph.stages:
        runner, steps = loop.runners.get(stage.name), loop.stats.steps.get(stage.name)
        if runner is not None and steps is not None:
            found[stage.name] = StageStats(
                stage.name,
                str(stage.kind),
                runner.waiting,
                steps.count,
                steps.items,
                steps.time,
                runner.cache.usage if isinstance(runner, Autoregress) else 0.0,
                runner.kept.queries if isinstance(runner, Once) else 0,
                runner.kept.hits if isinstance(runner, Once) else 0,
                runner.skipped if isinstance(runner, Denoise) else 0,
            )
    return found
