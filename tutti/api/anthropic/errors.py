"""Errors in the shape of Anthropic's API, and the rest of how its clients are talked to.

`{"type": "error", "error": {"type", "message"}, "request_id"}`; the status is the error's own.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tutti.api.endpoint import Dialect, bearer, header
from tutti.api.errors import error_headers, said, unforeseen
from tutti.api.stream import named_sse
from tutti.errors import TuttiError

PATHS = "/v1/messages"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def error_object(error: TuttiError, name: str) -> dict[str, Any]:
    """The body for `error` of the call `name`."""
    return _object(error.status, said(error), name)


def error_response(error: TuttiError, name: str) -> Response:
    """The HTTP response for `error`."""
    body = msgspec.json.encode(error_object(error, name))
    return Response(body, error.status, error_headers(error), "application/json")


def error_event(error: TuttiError, name: str) -> bytes:
    """An error in the middle of a stream, as its last event."""
    return named_sse("error", error_object(error, name))


def routing_error(request: Request, error: Exception) -> Response:
    """A method that does not exist here, or a path below these."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = msgspec.json.encode(_object(error.status_code, message, ""))
    return Response(body, error.status_code, error.headers, "application/json")


def internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours that nothing foresaw; the server's log has the details."""
    return error_response(unforeseen(error), "")


def is_ours(request: Request) -> bool:
    """Whether the path is one of Anthropic's."""
    path = request.url.path
    return path == PATHS or path.startswith(f"{PATHS}/")


def _object(status: int, message: str, name: str) -> dict[str, Any]:
    kind = _TYPES.get(
        status, "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
    )
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": name or None}


DIALECT = Dialect(
    key=lambda scope: _key(header(scope, b"x-api-key")) or bearer(scope),
    refuse=error_response,
    id_headers=(b"x-request-id", b"request-id"),
)


def _key(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1").strip()
