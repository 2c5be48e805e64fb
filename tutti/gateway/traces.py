"""The traces of the latest requests, and what the front knows of them that the engine does not.

The front opens a trace when a request comes; the engine's own arrives at the request's end and fills it in. A request
that never reaches the engine, or whose engine dies, has a trace of the front's part alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from tutti.errors import TuttiError
from tutti.events import ErrorValue
from tutti.request import Chat, Media, Request, Script
from tutti.trace import RUNNING, Trace


class Traces:
    """The latest `limit` traces, those of requests under way included. Belongs to one asyncio event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.exporter: Callable[[Trace], None] = lambda trace: None  # takes each trace that is complete
        self._kept: OrderedDict[str, Trace] = OrderedDict()  # by request, oldest first

    def open(self, request: Request) -> None:
        """A request has come."""
        media = {part.modality for part in request.parts if isinstance(part, Media)}
        self._keep(
            Trace(
                request=request.id,
                model=request.model,
                operation=_operation(request),
                inputs=("text", *sorted(media)),
                outputs=request.modalities,
                call=request.call,
                parent=request.traceparent,
                arrival=request.arrival or time.time(),
            )
        )

    def read(self, request_id: str, start: float, end: float, outputs: tuple[str, ...] = ()) -> None:
        """Its text and media were turned into tokens and arrays between two moments (seconds since the epoch).

        `outputs` are the ids of the engine's requests, where they are several: each has a trace of its own from now on.
        """
        trace = self._kept.get(request_id)
        if trace is None:
            return
        trace = msgspec.structs.replace(trace, reading=(start, end))
        if not outputs:
            self._kept[request_id] = trace
            return
        del self._kept[request_id]
        for output in outputs:
            self._keep(msgspec.structs.replace(trace, request=output))

    def complete(self, trace: Trace) -> None:
        """The engine's part of a trace, at the request's end."""
        known = self._kept.get(trace.request)
        if known is not None:
            trace = msgspec.structs.replace(
                trace,
                model=known.model,
                operation=known.operation,
                call=known.call,
                parent=known.parent,
                arrival=known.arrival,
                reading=known.reading,
                outcome=trace.outcome if known.outcome == RUNNING else known.outcome,
            )
        self._keep(trace)
        self.exporter(trace)

    def close(self, request_id: str, outcome: str, error: TuttiError | ErrorValue | None = None) -> None:
        """The request is over for the front; what the engine said of it counts."""
        known = self._kept.get(request_id)
        if known is None or known.ended is not None:
            return
        value = ErrorValue.of(error) if isinstance(error, TuttiError) else error
        trace = msgspec.structs.replace(known, outcome=outcome, error=value, ended=time.time())
        self._kept[request_id] = trace
        self.exporter(trace)

    def stop(self, request_id: str) -> None:
        """A stop string has ended its text; the engine is told to cancel what would follow."""
        known = self._kept.get(request_id)
        if known is not None and known.ended is None:
            self._kept[request_id] = msgspec.structs.replace(known, outcome="stop")

    def latest(self) -> list[Trace]:
        """All of them, the newest first."""
        return sorted(self._kept.values(), key=lambda trace: -trace.arrival)

    def find(self, name: str) -> list[Trace]:
        """Those of the request, the door's answer or the HTTP call called `name`, in order of arrival."""
        return [trace for trace in self._kept.values() if trace.is_of(name)]

    def _keep(self, trace: Trace) -> None:
        self._kept[trace.request] = trace
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)


def _operation(request: Request) -> str:
    """What is asked, in OpenTelemetry's words where it has one."""
    if request.pooled:
        return "embeddings"
    kinds = {type(part) for part in request.parts}
    return "chat" if Chat in kinds else "speech" if Script in kinds else "text_completion"
