"""The loop of a device that is not the main one: the same loop, over some of the graph's stages.

A request is admitted by the main loop. What its stages here emit goes along the edges here, and to the main loop where
a stage elsewhere follows, or where it leaves the graph; the main loop makes events of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from tutti.engine.bridges import Bridge, Ends
from tutti.engine.credits import Room
from tutti.engine.line import Line
from tutti.engine.loop import Loop, Route
from tutti.engine.machine import peak_memory
from tutti.engine.neighbour import Neighbour
from tutti.engine.parcels import Admit, Emitted, Heard, Message, Release, Report, ResetCaches
from tutti.engine.players import Players
from tutti.engine.stage import Arrival, Item, Runner, TokenOutput
from tutti.engine.stats import stage_stats
from tutti.engine.tracing import Passed, Tracing
from tutti.engine.wire import StageStats, ToEngine
from tutti.events import ErrorValue, Event, Failed
from tutti.graph import Chunk, Graph

_REPORTS = 0.25  # seconds between two reports of a loop that is busy


class DeviceLoop(Loop):
    """See the module."""

    def __init__(
        self,
        graph: Graph,
        runners: dict[str, Runner],
        bridges: Mapping[Ends, Bridge],
        main: Neighbour,
        players: Players,
        inbox: SimpleQueue[ToEngine | Arrival],
        reset: Callable[[], None],
        traced: bool,
    ) -> None:
        """`graph` is the whole one, `main` the main loop; `reset` empties caches; `traced`: tell of every step."""
        super().__init__(
            graph, runners, bridges, self._tell, players=players, inbox=inbox, neighbours=(main,)
        )
        if traced:
            self.tracing = _Told(main.line)
        self._main = main
        self._reset = reset
        self._reported = 0.0  # when
        self._known: tuple[StageStats, ...] = ()

    def take(self, message: Message) -> list[Chunk]:
        """What the main loop says."""
        match message:
            case Admit(request):
                self.submit(request)
            case Emitted(request=request) if request in self._routes:
                return [self._main.take(message)]
            case Room():
                self._main.hear(message)
            case Release(request):
                self._forget(request, "released")
            case Heard(request, dry):
                self.players.tell(request, dry)
            case ResetCaches():
                self._reset()
        return []

    def rests(self, stage: str, request_id: str) -> bool:
        """See `Loop.rests`; what goes to the main loop is bounded, too."""
        return self._main.full(request_id, stage) or super().rests(stage, request_id)

    def _leave(self, chunk: Chunk, route: Route) -> list[Event]:
        """Send what a stage here emitted to the main loop, if it is for somebody there or ends an account."""
        if chunk.stage in self.runners:
            follows = any(
                edge.source == chunk.stage and edge.destination not in self.runners
                for edge in route.graph.edges
            )
            ends = isinstance(chunk.payload, TokenOutput) and chunk.payload.ending is not None
            if follows or ends or chunk.stage in route.outputs:
                self._main.send(chunk)
        return []

    def _forget(self, request_id: str, outcome: str, error: ErrorValue | None = None) -> None:
        super()._forget(request_id, outcome, error)
        self._main.forget(request_id)

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Failed):
                self._main.line.send(event)

    def _receive(self, block: bool) -> bool:
        now = time.monotonic()
        if block or now - self._reported > _REPORTS:
            stats = tuple(stage_stats(self.graph, self).values())
            if stats != self._known:
                self._main.line.send(Report(stats, peak_memory()))
            self._known, self._reported = stats, now
        return super()._receive(block)


class _Told(Tracing):
    """Tells the main loop of the steps here, which has the requests' records."""

    def __init__(self, line: Line) -> None:
        super().__init__(None)
        self._line = line

    def stepped(
        self, stage: str, batch: Sequence[Item], start: float, end: float, chunks: Sequence[Chunk]
    ) -> None:
        """See `Tracing.stepped`."""
        self._line.send(Passed.of(stage, batch, start, end, chunks))
