"""Errors in the shape of Ollama's API: `{"error": "..."}`, whole or as the last line of a stream."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tutti.api.endpoint import Dialect, bearer
from tutti.api.errors import error_headers, said, unforeseen
from tutti.api.stream import Form
from tutti.errors import QueueFull, TuttiError

_BUSY = "server busy, please try again.  maximum pending requests exceeded"  # both spaces are its own


def error_response(error: TuttiError, name: str = "") -> Response:
    """The HTTP response for `error`, of the call `name`."""
    return Response(_body(error), error.status, error_headers(error), "application/json; charset=utf-8")


def _body(error: TuttiError) -> bytes:
    return msgspec.json.encode({"error": _BUSY if isinstance(error, QueueFull) else said(error)})


NDJSON = Form("application/x-ndjson", lambda error: _body(error) + b"\n")


def routing_error(request: Request, error: Exception) -> Response:
    """A path or a method that does not exist here."""
    assert isinstance(error, HTTPException)
    body = {"error": f"{request.method} {request.url.path}: {error.detail}"}
    return Response(msgspec.json.encode(body), error.status_code, error.headers, "application/json")


def internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours that nothing foresaw; the server's log has the details."""
    return error_response(unforeseen(error))


def is_ours(request: Request) -> bool:
    """Whether the path is one of Ollama's."""
    return request.url.path.startswith("/api/")


DIALECT = Dialect(key=bearer, refuse=error_response)
