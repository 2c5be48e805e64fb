"""What clients are told when something cannot be done: the `error` event, and OpenAI's words for causes."""

from __future__ import annotations

import logging
from typing import Any

from tutti.api.errors import error_object
from tutti.errors import InvalidRequest, TuttiError

log = logging.getLogger(__name__)


class Refusal(InvalidRequest):
    """An event that cannot be followed; `code` is OpenAI's word for the cause. The session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


def error_detail(error: TuttiError, event_id: str | None) -> dict[str, Any]:
    """The `error` of an `error` event; `event_id` is that of the client's event, where one is to blame."""
    return {**error_object(error)["error"], "event_id": event_id}


def expected(error: BaseException, what: str) -> TuttiError:
    """`error` if it is one of ours; else that goes to the log, and the client is told that it is there."""
    if isinstance(error, TuttiError):
        return error
    log.error("%s failed", what, exc_info=error)
    return TuttiError("Internal error; the server's log has the details.")
