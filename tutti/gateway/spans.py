"""Traces as OpenTelemetry's spans, sent by OTLP over HTTP. Needs the extra `tutti[otel]`.

A request is one span with a child for the front and for each stage, and these have one for each phase. Attributes are
those of the semantic conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai), and `tutti.*` for what
they have no name for. Spans are made and sent by threads of their own, after the request's end. What else the standard
variables say (headers, sampling, resource attributes) OpenTelemetry's own packages read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import tutti
from tutti.errors import ConfigError
from tutti.trace import Phase, StageTrace, Trace

if TYPE_CHECKING:
    from opentelemetry.context import Context

log = logging.getLogger(__name__)

_PATH = "/v1/traces"


class SpanExport:
    """Sends traces to a collector."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is the collector's base URL, or that of its traces. Raises ConfigError without the extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ConfigError(
                "sending spans needs OpenTelemetry's packages: pip install 'tutti-engine[otel]'",
                param="otlp_endpoint",
            ) from error
        url = endpoint.rstrip("/")
        url = url if url.endswith(_PATH) else url + _PATH
        ours = Resource({"service.name": "tutti", "service.version": tutti.__version__})
        self._provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("tutti", tutti.__version__)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spans")

    def put(self, trace: Trace) -> None:
        """Send the trace of a request that has ended, soon."""
        self._thread.submit(self._send, trace).add_done_callback(_report)

    def close(self) -> None:
        """Send what is left."""
        self._thread.shutdown()
        self._provider.shutdown()

    def _send(self, trace: Trace) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert trace.ended is not None
        carrier = {} if trace.parent is None else {"traceparent": trace.parent}
        caller = TraceContextTextMapPropagator().extract(carrier)
        root = self._tracer.start_span(
            f"{trace.operation} {trace.model}".strip(),
            caller,
            SpanKind.SERVER,
            _attributes(trace),
            start_time=_nanoseconds(trace.arrival),
        )
        for mark in trace.marks:
            root.add_event(mark.name, {"tutti.seconds": mark.seconds}, _nanoseconds(mark.at))
        if trace.error is not None:
            root.set_status(Status(StatusCode.ERROR, trace.error.message))
        here = _below(root)
        if trace.reading is not None:
            start, end = trace.reading
            self._span(
                "front", (Phase("queue", trace.arrival, start), Phase("reading", start, end)), here, {}
            )
        for stage in trace.stages:
            phases = stage.phases(trace.ended)
            if phases:
                self._span(f"stage {stage.name}", phases, here, _stage_attributes(stage))
        root.end(_nanoseconds(trace.ended))

    def _span(self, name: str, phases: Sequence[Phase], parent: Context, attributes: dict[str, Any]) -> None:
        """A span over all `phases`, and one for each."""
        span = self._tracer.start_span(
            name, parent, attributes=attributes, start_time=_nanoseconds(phases[0].start)
        )
        here = _below(span)
        for phase in phases:
            child = self._tracer.start_span(phase.name, here, start_time=_nanoseconds(phase.start))
            child.end(_nanoseconds(phase.end))
        span.end(_nanoseconds(phases[-1].end))


def _report(sending: Future[None]) -> None:
    if (error := sending.exception()) is not None:
        log.error("a trace could not be made into spans", exc_info=error)


def _below(span: Any) -> Context:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)


def _attributes(trace: Trace) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": trace.operation,
        "gen_ai.provider.name": "tutti",
        "gen_ai.request.model": trace.model,
        "gen_ai.response.model": trace.model,
        "gen_ai.response.id": trace.request,
        "gen_ai.response.finish_reasons": (trace.outcome,),
        "gen_ai.output.type": "speech" if "audio" in trace.outputs else "text",
        "gen_ai.usage.input_tokens": trace.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": trace.cached_tokens,
        "gen_ai.usage.output_tokens": trace.completion_tokens,
        "tutti.inputs": trace.inputs,
        "tutti.sound.seconds": trace.sound,
        "tutti.underruns": trace.underruns,
    }
    if trace.error is not None:
        found["error.type"] = trace.error.kind
    if trace.call:
        found["http.request.header.x-request-id"] = (trace.call,)
    return found


def _stage_attributes(stage: StageTrace) -> dict[str, Any]:
    return {
        "tutti.stage": stage.name,
        "tutti.stage.kind": stage.kind,
        "tutti.stage.steps": stage.count,
        "tutti.stage.busy": stage.busy,
        "tutti.stage.batch": stage.batch,
        "tutti.stage.outputs": stage.outputs,
    }


def _nanoseconds(moment: float) -> int:
    return int(moment * 1e9)
