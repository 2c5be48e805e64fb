"""The loop: one per device. It chooses the most urgent stage that has work, plans, steps, and routes the chunks.

It knows stages by their protocol only, never what they compute. It blocks when idle. A stage that raises is asked
again for each request of the batch alone, so that only the one at fault fails.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from msgspec.structs import replace

from tutti.engine.bridges import Bridge, Ends
from tutti.engine.outputs import events_of
from tutti.engine.players import Players
from tutti.engine.stage import Arrival, Failure, Runner, Settles, TokenOutput, nobody
from tutti.engine.tracing import Tracing
from tutti.engine.wire import Call, Cancel, Shutdown, Submit, ToEngine, Wake
from tutti.errors import InvalidRequest, StageFailed, TuttiError
from tutti.events import AudioDelta, Done, ErrorValue, Event, Failed, Progress, Usage
from tutti.graph import Chunk, Edge, Graph, Kind, Nothing
from tutti.request import MediaInput, Request
from tutti.trace import Trace

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Route:
    """A request's way through its pruned graph."""

    request: Request
    graph: Graph
    outputs: set[str]  # stages whose last chunk is still to come
    done: Done  # how it ends, once it does: as its text did, if it has any
    account: Usage | None = None  # what inner stages cost, for a request without text
    memory: dict[Ends, dict[str, Any]] = field(default_factory=dict)  # per edge


@dataclass(slots=True)
class Steps:
    """The steps of one stage since the start."""

    count: int = 0
    items: int = 0  # of all batches
    time: float = 0.0  # seconds


@dataclass(slots=True)
class LoopStats:
    """Counters since the start."""

    steps: dict[str, Steps]  # by stage
    requests: int = 0
    failures: int = 0


class Loop:
    """Serves one graph on one device."""

    def __init__(
        self,
        graph: Graph,
        runners: dict[str, Runner],
        bridges: Mapping[Ends, Bridge],
        emit: Callable[[list[Event]], None],
        answer: Callable[[Call], None] = lambda call: None,
        players: Players | None = None,
        traced: Callable[[Trace], None] | None = None,
        inbox: SimpleQueue[ToEngine | Arrival] | None = None,
        neighbours: Sequence[Settles] = (),
    ) -> None:
        """`players` are the clocks that the runners look at, too; `traced` takes each request's trace at its end.

        `neighbours` are the loops of other devices, what comes from them comes by the `inbox`.
        """
        self.graph = graph
        self.players = players or Players()
        self.runners = runners
        self.inbox: SimpleQueue[ToEngine | Arrival] = inbox or SimpleQueue()
        self.stats = LoopStats({name: Steps() for name in runners})
        self._emit = emit
        self.tracing = Tracing(traced)
        self._answer = answer
        self._routes: dict[str, Route] = {}
        # Of stages that are due at once, the one nearer to the listener goes first: it has what others made for it.
        order = [stage.name for stage in graph.stages]
        self._nearness = {name: -order.index(name) for name in runners}
        self._bridges = bridges
        self._neighbours = neighbours
        self._behind: dict[str, list[Runner]] = {}
        for source, destination in bridges:
            self._behind.setdefault(source, []).append(runners[destination])
        self._followed = {edge.source for edge in graph.edges}

    def run(self) -> None:
        """Serve until a `Shutdown` message arrives."""
        idle = True
        while self._receive(block=idle):
            idle = not self.turn()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Serve in the caller's thread until `done()`."""
        idle = False
        while not done() and self._receive(block=idle):
            idle = not self.turn()

    def turn(self) -> bool:
        """One step of the most urgent stage that can advance; False when none can."""
        waiting = [
            (due, self._nearness[name], name)
            for name, runner in self.runners.items()
            if (due := runner.urgency()) is not None
        ]
        for _, _, name in sorted(waiting):
            runner = self.runners[name]
            batch = runner.plan(functools.partial(self.rests, name) if name in self._followed else nobody)
            if batch:
                start, steps = time.monotonic(), self.stats.steps[name]
                chunks = self._step(runner, batch)
                self.tracing.stepped(name, batch, start, time.monotonic(), chunks)
                events = [event for chunk in chunks for event in self._route(chunk)]
                steps.count += 1
                steps.items += len(batch)
                steps.time += time.monotonic() - start
                if events:
                    self._emit(events)
                return True
        return False

    def submit(self, request: Request) -> None:
        """Give a request to the stages it begins with; one that is refused fails at once."""
        self.stats.requests += 1
        try:
            graph = self.graph.prune(request.modalities, _inputs(request))
            self.tracing.begin(request, graph)
            outputs = set(graph.givers(request.modalities))
            names = [stage.name for stage in self.graph.stages if stage.kind is Kind.AUTOREGRESS]
            unknown = sorted(set(request.stage_sampling) - set(names))
            if unknown:
                raise InvalidRequest(
                    f"stage_sampling: there is no stage {unknown[0]!r} that samples; there are {', '.join(names)}",
                    param="stage_sampling",
                )
            if not outputs:
                offered = sorted({stage.output for stage in self.graph.stages if stage.output})
                raise InvalidRequest(
                    f"the model gives {', '.join(offered)}, not {', '.join(request.modalities)}",
                    param="modalities",
                )
            self.players.begin(request)
            self._routes[request.id] = Route(request, graph, outputs, Done(request.id, "stop"))
            for stage in graph.stages:
                if stage.name in self.runners:
                    self.runners[stage.name].admit(request)
        except Exception as error:
            if not isinstance(error, TuttiError):
                log.error("request %s could not be taken in", request.id, exc_info=error)
                error = StageFailed(f"the request could not be taken in: {type(error).__name__}: {error}")
            self._emit([self._failed(request.id, error)])

    def cancel(self, request_id: str) -> None:
        """Stop a request in every stage. Its stream is closed with what it cost so far."""
        route = self._routes.get(request_id)
        if route is None:
            return
        outputs = route.outputs
        closing = {name: self.runners[name].release(request_id) for name in outputs}
        events: list[Event] = []
        for name, payload in closing.items():
            if payload is not None:
                events += events_of(Chunk(request_id, name, payload, final=True))
        for event in events:
            self.tracing.leave(event)
        self._forget(request_id, "cancelled")
        self._emit([*events, Done(request_id, "cancelled")])

    def full(self, stage: str, request_id: str) -> bool:
        """Whether the stages behind `stage` have enough to do for a request."""
        return any(runner.full(request_id) for runner in self._behind.get(stage, ()))

    def rests(self, stage: str, request_id: str) -> bool:
        """Whether `stage` leaves a request alone now."""
        return self.full(stage, request_id)

    # --- messages -----------------------------------------------------------------------------------------------

    def _receive(self, block: bool) -> bool:
        """Handle every message that is there (waiting for one first if `block`). False: shut down."""
        self._settle()
        try:
            message = self.inbox.get(block=block)
            while True:
                if isinstance(message, Shutdown):
                    return False
                self._handle(message)
                message = self.inbox.get(block=False)
        except Empty:
            self._settle()
            return True

    def _settle(self) -> None:
        """Tell other loops what was taken of what they sent."""
        for neighbour in self._neighbours:
            neighbour.settle(self.full)

    def _handle(self, message: ToEngine | Arrival) -> None:
        match message:
            case Submit(request):
                self.submit(request)
            case Cancel(ids):
                for request_id in ids:
                    self.cancel(request_id)
            case Call():
                self._answer(message)
            case Arrival(take):
                events = [event for chunk in take() for event in self._route(chunk)]
                if events:
                    self._emit(events)
            case Wake() | Shutdown():
                pass

    # --- steps and chunks ---------------------------------------------------------------------------------------

    def _step(self, runner: Runner, batch: Sequence[Any]) -> list[Chunk]:
        try:
            return runner.step(batch)
        except Exception as error:  # noqa: BLE001 - whatever a stage raises must not end the loop
            if len(batch) == 1:
                return [self._blame(runner, batch[0].request_id, error)]
            log.warning(
                "stage %s: a batch of %d failed (%s); each is run alone", runner.name, len(batch), error
            )
        return [chunk for item in batch for chunk in self._step(runner, [item])]

    def _blame(self, runner: Runner, request_id: str, error: Exception) -> Chunk:
        log.error("stage %s failed on request %s", runner.name, request_id, exc_info=error)
        if not isinstance(error, TuttiError):
            error = StageFailed(
                f"stage {runner.name} failed: {type(error).__name__}: {error}", stage=runner.name
            )
        return Chunk(request_id, runner.name, Failure(error), final=True)

    def _route(self, chunk: Chunk) -> list[Event]:
        """Send a chunk along its edges, and out of the graph where its stage is an output."""
        route = self._routes.get(chunk.request)
        if route is None:
            return []  # cancelled meanwhile
        if isinstance(chunk.payload, Failure):
            return [self._failed(chunk.request, chunk.payload.error)]
        if isinstance(chunk.payload, Progress):
            return [chunk.payload]  # for the caller, not for the stages behind
        try:
            for edge in route.graph.edges:
                if edge.source == chunk.stage:
                    self._cross(edge, chunk, route)
        except Exception as error:  # noqa: BLE001 - a bridge is a model's code, like a stage
            return [self._failed(chunk.request, _edge_error(chunk.stage, error))]
        return self._leave(chunk, route)

    def _leave(self, chunk: Chunk, route: Route) -> list[Event]:
        """What leaves the graph with a chunk."""
        events: list[Event] = []
        if chunk.stage in route.outputs:
            events = self._told(chunk, route)
        else:
            route.account = _added(route.account, chunk)
        if not route.outputs:
            if route.account is not None and "text" not in route.request.modalities:
                events.append(route.account)
            events.append(route.done)
            self._forget(chunk.request, route.done.reason)  # nothing more to come: every stage lets go
        return events

    def _told(self, chunk: Chunk, route: Route) -> list[Event]:
        """What the caller is told of an output stage's chunk."""
        events = events_of(chunk)
        for event in events:
            dry = self.players.deliver(chunk.request, event.seconds) if isinstance(event, AudioDelta) else 0.0
            self.tracing.leave(event, dry)
        if isinstance(chunk.payload, TokenOutput) and chunk.payload.ending is not None:
            route.done = Done(chunk.request, chunk.payload.ending.reason, chunk.payload.ending.stop)
        if chunk.final:
            route.outputs.discard(chunk.stage)
        return events

    def _cross(self, edge: Edge, chunk: Chunk, route: Route) -> None:
        ends = (edge.source, edge.destination)
        bridge = self._bridges.get(ends)
        if bridge is None:
            return  # it lies in another loop
        crossed = bridge(chunk, route.memory.setdefault(ends, {"request": route.request}))
        if crossed is None:
            return
        if isinstance(crossed.payload, Nothing):
            self._leave_out(edge.destination, route)
            return
        self.tracing.fed(chunk.request, edge.destination)
        self.runners[edge.destination].feed(crossed)

    def _leave_out(self, stage: str, route: Route) -> None:
        """Let a request go on without a stage to which nothing comes, and without those behind it."""
        left = route.graph.without(stage)
        for one in route.graph.stages:
            if one not in left.stages:
                route.outputs.discard(one.name)
                self.runners[one.name].release(route.request.id)
        route.graph = left

    def _failed(self, request_id: str, error: TuttiError) -> Failed:
        self.stats.failures += 1
        value = ErrorValue.of(error)
        self._forget(request_id, "error", value)
        return Failed(request_id, value)

    def _forget(self, request_id: str, outcome: str, error: ErrorValue | None = None) -> None:
        self.tracing.end(request_id, outcome, error)
        self._routes.pop(request_id, None)
        self.players.end(request_id)
        for runner in self.runners.values():
            runner.release(request_id)


def _added(account: Usage | None, chunk: Chunk) -> Usage | None:
    """The account of a request whose inner stages give tokens: the first one's prompt, the last one's output."""
    for event in events_of(chunk) if isinstance(chunk.payload, TokenOutput) else ():
        if isinstance(event, Usage):
            account = (
                event if account is None else replace(account, completion_tokens=event.completion_tokens)
            )
    return account


def _edge_error(stage: str, error: Exception) -> TuttiError:
    if isinstance(error, TuttiError):
        return error
    return StageFailed(f"an edge from stage {stage} failed: {type(error).__name__}: {error}", stage=stage)


def _inputs(request: Request) -> tuple[str, ...]:
    """The modalities a request brings."""
    media = {part.modality for part in request.parts if isinstance(part, MediaInput)}
    return ("text", *sorted(media))
