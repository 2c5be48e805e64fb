"""What clients are told when something cannot be done: the `error` event, and OpenAI's words for causes."""

from __future__ import annotations

from typing import Any

from tutti.api.errors import error_object
from tutti.errors import InvalidRequest, TuttiError


class Refusal(InvalidRequest):
    """An event that cannot be followed; `code` is OpenAI's word for the cause. The session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


def error_detail(error: TuttiError, event_id: str | None) -> dict[str, Any]:
    """The `error` of an `error` event; `event_id` is that of the client's event, where one is to blame."""
    return {**error_object(error)["error"], "event_id": event_id}
