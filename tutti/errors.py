"""The errors Tutti raises, one class per kind of cause.

An error is raised once, where its cause is known, and says what was wrong and what to do. It is turned into a
protocol's shape (OpenAI's, Ollama's, an exit code) once, at the edge. `status` is the HTTP status that fits and
`code` a short stable word for programs. An error crosses the process boundary as an `ErrorValue` (see `events`).
"""

from __future__ import annotations


class TuttiError(Exception):
    """Base of every error Tutti raises on purpose.

    `param` names the request field or flag at fault (or None); `stage` the stage of the graph that failed.
    """

    status: int = 500
    code: str = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, stage: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.stage = stage


class InvalidRequest(TuttiError):
    """The caller sent something that cannot be served as it is."""

    status = 400
    code = "invalid_request"


class ContextOverflow(InvalidRequest):
    """Prompt plus requested output exceed the context length. The message states both numbers."""

    code = "context_length_exceeded"


class InvalidGrammar(InvalidRequest):
    """A JSON schema, regular expression or grammar could not be compiled."""

    code = "invalid_grammar"


class InvalidModelName(InvalidRequest):
    """What was typed cannot be the name of a stored model."""

    code = "invalid_model_name"


class ModelfileError(InvalidRequest):
    """A Modelfile is wrong; the message names the line."""

    code = "invalid_modelfile"


class InvalidMedia(InvalidRequest):
    """An image, a recording or a video could not be read."""

    code = "invalid_media"


class FetchError(InvalidMedia):
    """A URL in a request could not be fetched, or may not be."""

    code = "media_unavailable"


class NotDrawn(InvalidRequest):
    """A model that writes and draws answered a request for a picture with words alone."""

    code = "no_picture"

    @classmethod
    def instead(cls, text: str) -> NotDrawn:
        """The error where `text` was the answer."""
        said = text if len(text) <= 200 else f"{text[:200]}..."
        return cls(
            f"the model drew no picture, it answered: {said!r}; say what is in the picture", param="prompt"
        )


class Unauthorized(TuttiError):
    """No key, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class NotFound(TuttiError):
    """The named thing does not exist here."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that name is served or stored."""

    code = "model_not_found"


class PayloadTooLarge(TuttiError):
    """The request's body exceeds the limit."""

    status = 413
    code = "payload_too_large"


class Cancelled(TuttiError):
    """The caller went away or asked to stop."""

    status = 499
    code = "cancelled"


class Busy(TuttiError):
    """Not now: the queue is full, or the engine is not ready; `retry_after` is in seconds."""

    status = 503
    code = "server_busy"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Busy):
    """As many requests run and wait as may."""


class EngineDied(TuttiError):
    """The engine process ended while the request was in flight; it is being restarted."""

    code = "engine_died"


class StageFailed(TuttiError):
    """A stage raised while it worked on this request; `stage` names it."""

    code = "stage_failed"


class ConfigError(TuttiError):
    """A flag, a setting or a file of settings is wrong."""

    status = 400
    code = "config_error"


class CheckpointError(TuttiError):
    """A checkpoint is corrupt, incomplete or of a form that is not supported."""

    code = "checkpoint_error"


class OutOfMemory(TuttiError):
    """The memory plan does not fit its budget. The message shows the sum."""

    code = "out_of_memory"


class LoadTimeout(TuttiError):
    """A model was not loaded in the time that it may take."""

    code = "load_timeout"


class StoreError(TuttiError):
    """The folder of models cannot be read or written: it is full, closed to us, or what is in it is damaged."""

    code = "store_error"


class StoredElsewhere(StoreError):
    """The model lies in a folder of another program, which we only read."""

    status = 403
    code = "stored_elsewhere"


class TransferError(TuttiError):
    """A registry or a web server did not give (or take) what it was asked; what has come so far is kept."""

    status = 502
    code = "transfer_failed"


class NoServer(TuttiError):
    """No server answers where one was expected."""

    status = 503
    code = "no_server"


class ServerError(TuttiError):
    """A server that was asked for something refused, or broke off; the message is what it said."""

    status = 502
    code = "server_error"


class ServerNotFound(ServerError):
    """What a server was asked for is not there: it has no such model, or no such path."""

    status = 404
    code = "not_found"
