"""Errors in the shape of Ollama's API: `{"error": "..."}`, whole or as the last line of a stream."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tutti.api.stream import Form
from tutti.errors import Busy, QueueFull, TuttiError

_BUSY = "server busy, please try again.  maximum pending requests exceeded"  # both spaces are its own


def error_response(error: TuttiError) -> Response:
    """The HTTP response for `error`."""
    headers = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(math.ceil(error.retry_after), 1))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(_body(error), error.status, headers, "application/json; charset=utf-8")


def _body(error: TuttiError) -> bytes:
    message = _BUSY if isinstance(error, QueueFull) else error.message
    if error.stage is not None and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"{message} (stage: {error.stage})"
    return msgspec.json.encode({"error": message})


NDJSON = Form("application/x-ndjson", lambda error: _body(error) + b"\n")


def routing_error(request: Request, error: Exception) -> Response:
    """A path or a method that does not exist here."""
    assert isinstance(error, HTTPException)
    body = {"error": f"{request.method} {request.url.path}: {error.detail}"}
    return Response(msgspec.json.encode(body), error.status_code, error.headers, "application/json")


def internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours that nothing foresaw; the server's log has the details."""
    return error_response(
        TuttiError(f"Internal error ({type(error).__name__}); the server's log has the details.")
    )
