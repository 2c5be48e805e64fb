"""How the latest requests went: `GET /v1/traces` lists them, `GET /v1/traces/{id}` has everything of one."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.job import json_response
from tutti.errors import NotFound
from tutti.trace import Trace


async def list_traces(call: Call) -> ASGIApp:
    """The latest requests, the newest first, each in a line."""
    traces = [trace for kept in call.gateway.traces() for trace in kept.latest()]
    traces.sort(key=lambda trace: -trace.arrival)
    return json_response({"object": "list", "data": [_line(trace) for trace in traces]})


async def get_traces(call: Call) -> ASGIApp:
    """The traces of one request: one for each output, or for each prompt, of what was asked. Raises NotFound.

    It may be called by its own id, by that of its answer (`chatcmpl-...`), or by that of its HTTP call
    (`x-request-id`).
    """
    name = call.path["request"]
    found = [trace for kept in call.gateway.traces() for trace in kept.find(name)]
    if not found:
        limit = sum(kept.limit for kept in call.gateway.traces())
        raise NotFound(f"There is no trace of {name!r}: those of the latest {limit} requests are kept.")
    return json_response({"object": "list", "data": found})


def _line(trace: Trace) -> dict[str, Any]:
    return {
        "request": trace.request,
        "model": trace.model,
        "arrival": trace.arrival,
        "seconds": None if trace.ended is None else trace.ended - trace.arrival,
        "outcome": trace.outcome,
        "underruns": trace.underruns,
    }
