"""Errors in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, in this one place.

The status is the error's own; `Busy` adds `Retry-After`. `code` is the error's stable word, `type` OpenAI's coarse
kind.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tutti.errors import Busy, TuttiError

_TYPES = {401: "authentication_error", 404: "not_found_error", 503: "service_unavailable_error"}


def error_object(error: TuttiError) -> dict[str, Any]:
    """The body for `error`."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": said(error), "type": kind, "param": error.param, "code": error.code}}


def said(error: TuttiError) -> str:
    """The error's message, with the stage where that is what failed."""
    if error.stage is not None and error.status >= 500:
        return f"{error.message} (stage: {error.stage})"
    return error.message


def error_headers(error: TuttiError) -> dict[str, str]:
    """The headers of a response that tells `error`, in any protocol."""
    headers = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(math.ceil(error.retry_after), 1))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return headers


def error_response(error: TuttiError) -> Response:
    """The HTTP response for `error`."""
    body = msgspec.json.encode(error_object(error))
    return Response(body, error.status, error_headers(error), "application/json")


def error_event(error: TuttiError) -> bytes:
    """An error in the middle of a stream, as its last event but the mark of the end."""
    return b"data: " + msgspec.json.encode(error_object(error)) + b"\n\ndata: [DONE]\n\n"


def routing_error(request: Request, error: Exception) -> Response:
    """A path or a method that does not exist here."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    code = "method_not_allowed" if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else "not_found"
    body = {
        "message": f"{what}: {error.detail}",
        "type": "invalid_request_error",
        "param": None,
        "code": code,
    }
    return Response(
        msgspec.json.encode({"error": body}), error.status_code, error.headers, "application/json"
    )


def internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours that nothing foresaw; the server's log has the details."""
    return error_response(unforeseen(error))


def unforeseen(error: Exception) -> TuttiError:
    """What callers are told of a fault that nothing foresaw."""
    return TuttiError(f"Internal error ({type(error).__name__}); the server's log has the details.")
