"""The application: which path leads to which handler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute

from tutti.api import system, traces
from tutti.api.endpoint import MAX_BODY, Endpoint
from tutti.api.errors import internal_error, routing_error
from tutti.api.openai.chat import chat_completions
from tutti.api.openai.completions import completions
from tutti.api.openai.models import get_model, list_models
from tutti.api.openai.speech import speech
from tutti.api.openai.tokenize import detokenize, tokenize
from tutti.api.openai.transcriptions import transcriptions, translations
from tutti.api.openai.voices import list_speaking_models, list_voices
from tutti.api.realtime.door import RealtimeDoor
from tutti.api.realtime.limits import RealtimeLimits
from tutti.gateway.gateway import Gateway
from tutti.media.fetch import FetchLimits

# path, method, handler, whether a key is asked for
_ROUTES = (
    ("/v1/models", "GET", list_models, True),
    ("/v1/models/{model:path}", "GET", get_model, True),
    ("/v1/chat/completions", "POST", chat_completions, True),
    ("/v1/completions", "POST", completions, True),
    ("/v1/audio/speech", "POST", speech, True),
    ("/v1/audio/voices", "GET", list_voices, False),  # Open WebUI asks for both without a key
    ("/v1/audio/models", "GET", list_speaking_models, False),
    ("/v1/audio/transcriptions", "POST", transcriptions, True),
    ("/v1/audio/translations", "POST", translations, True),
    ("/tokenize", "POST", tokenize, True),
    ("/detokenize", "POST", detokenize, True),
    ("/reset_prefix_cache", "POST", system.reset_prefix_cache, True),
    ("/v1/traces", "GET", traces.list_traces, True),
    ("/v1/traces/{request:path}", "GET", traces.get_traces, True),
    ("/metrics", "GET", system.metrics, False),
    ("/health", "GET", system.health, False),
    ("/ping", "GET", system.ping, False),
    ("/ping", "POST", system.ping, False),
    ("/version", "GET", system.version, False),
    ("/", "GET", system.front_page, False),
)


def create_app(
    gateway: Gateway,
    *,
    max_body: int = MAX_BODY,
    fetching: FetchLimits | None = None,
    realtime: RealtimeLimits | None = None,
) -> Starlette:
    """The application around `gateway`, which it closes when it shuts down.

    `max_body` is in bytes; `fetching` limits what the URLs in requests may cost and reach, `realtime` what the
    sessions of conversations may take.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    endpoint = partial(Endpoint, gateway, max_body=max_body, fetching=fetching)
    return Starlette(
        routes=[
            *(
                Route(path, endpoint(handler, guarded=guarded), methods=[method])
                for path, method, handler, guarded in _ROUTES
            ),
            WebSocketRoute("/v1/realtime", RealtimeDoor(gateway, realtime, fetching)),
        ],
        exception_handlers={HTTPException: routing_error, Exception: internal_error},
        lifespan=lifespan,
    )
