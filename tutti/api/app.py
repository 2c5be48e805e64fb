"""The application: which path leads to which handler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from tutti.api import errors as openai
from tutti.api import system, traces
from tutti.api.anthropic import errors as anthropic
from tutti.api.anthropic.messages import count_tokens, messages
from tutti.api.cors import Cors
from tutti.api.endpoint import MAX_BODY, Endpoint
from tutti.api.ollama import errors as ollama
from tutti.api.ollama import models as ollama_models
from tutti.api.ollama import stored
from tutti.api.ollama.chat import chat as ollama_chat
from tutti.api.ollama.embed import embed, embeddings
from tutti.api.ollama.generate import generate as ollama_generate
from tutti.api.openai.chat import chat_completions
from tutti.api.openai.completions import completions
from tutti.api.openai.edits import edits, variations
from tutti.api.openai.embeddings import embeddings as openai_embeddings
from tutti.api.openai.embeddings import pooling
from tutti.api.openai.images import generations
from tutti.api.openai.models import get_model, list_models
from tutti.api.openai.ranking import rerank, score
from tutti.api.openai.responses.door import Responses
from tutti.api.openai.sounds import sounds
from tutti.api.openai.speech import speech
from tutti.api.openai.tokenize import detokenize, tokenize
from tutti.api.openai.transcriptions import transcriptions, translations
from tutti.api.openai.videos.door import Videos
from tutti.api.openai.voices import list_speaking_models, list_voices
from tutti.api.realtime.door import RealtimeDoor
from tutti.api.realtime.limits import RealtimeLimits
from tutti.gateway.gateway import Gateway
from tutti.hub.store import Store
from tutti.media.fetch import FetchLimits

# path, method, handler, whether a key is asked for
_ROUTES = (
    ("/v1/models", "GET", list_models, True),
    ("/v1/models/{model:path}", "GET", get_model, True),
    ("/v1/chat/completions", "POST", chat_completions, True),
    ("/v1/completions", "POST", completions, True),
    ("/v1/images/generations", "POST", generations, True),
    ("/v1/images/edits", "POST", edits, True),
    ("/v1/images/variations", "POST", variations, True),
    ("/v1/embeddings", "POST", openai_embeddings, True),
    ("/v1/rerank", "POST", rerank, True),
    ("/v2/rerank", "POST", rerank, True),
    ("/rerank", "POST", rerank, True),
    ("/v1/score", "POST", score, True),
    ("/score", "POST", score, True),
    ("/pooling", "POST", pooling, True),
    ("/v1/audio/speech", "POST", speech, True),
    ("/v1/audio/generate", "POST", sounds, True),
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
)
_ANTHROPIC = ((anthropic.PATHS, messages), (f"{anthropic.PATHS}/count_tokens", count_tokens))

# The same of Ollama's API, whose errors have a shape of their own.
_OLLAMA = (
    ("/", "GET", ollama_models.running, False),
    ("/api/version", "GET", ollama_models.version, False),
    ("/api/tags", "GET", ollama_models.tags, True),
    ("/api/ps", "GET", ollama_models.ps, True),
    ("/api/show", "POST", ollama_models.show, True),
    ("/api/chat", "POST", ollama_chat, True),
    ("/api/generate", "POST", ollama_generate, True),
    ("/api/embed", "POST", embed, True),
    ("/api/embeddings", "POST", embeddings, True),
    ("/api/pull", "POST", stored.pull, True),
    ("/api/push", "POST", stored.push, True),
    ("/api/create", "POST", stored.create, True),
    ("/api/copy", "POST", stored.copy, True),
    ("/api/delete", "DELETE", stored.delete, True),
    ("/api/blobs/{digest}", "HEAD", stored.head_blob, True),
)


def create_app(
    gateway: Gateway,
    *,
    max_body: int = MAX_BODY,
    fetching: FetchLimits | None = None,
    realtime: RealtimeLimits | None = None,
    store: Store | None = None,
    origins: Sequence[str] = (),
    videos: Path | None = None,
) -> Starlette:
    """The application around `gateway`, which it closes when it shuts down.

    `max_body` is in bytes; `fetching` limits what the URLs in requests may cost and reach, `realtime` what the
    sessions of conversations may take. `store` holds the models that callers may pull, make and remove; without one,
    they cannot. `origins` are those of web pages that may use the server, besides local ones. `videos` is the folder
    where videos are kept, with the jobs that make them; without one, none are made.
    """
    films = Videos(gateway, videos)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await films.resume()
        yield
        await films.close()
        await gateway.close()

    endpoint = partial(Endpoint, gateway, max_body=max_body, fetching=fetching, store=store)
    responses = Responses()
    response, video = "/v1/responses/{response}", "/v1/videos/{video}"
    return Starlette(
        routes=[
            *(
                Route(path, endpoint(handler, guarded=guarded), methods=[method])
                for path, method, handler, guarded in _ROUTES
            ),
            Route("/v1/responses", endpoint(responses.create), methods=["POST"]),
            Route(response, endpoint(responses.get), methods=["GET"]),
            Route(response, endpoint(responses.delete), methods=["DELETE"]),
            Route("/v1/videos", endpoint(films.create), methods=["POST"]),
            Route("/v1/videos", endpoint(films.list), methods=["GET"]),
            Route(video, endpoint(films.get), methods=["GET"]),
            Route(video, endpoint(films.delete), methods=["DELETE"]),
            Route(f"{video}/content", endpoint(films.content), methods=["GET"]),
            *(
                Route(path, endpoint(handler, dialect=anthropic.DIALECT), methods=["POST"])
                for path, handler in _ANTHROPIC
            ),
            *(
                Route(path, endpoint(handler, guarded=guarded, dialect=ollama.DIALECT), methods=[method])
                for path, method, handler, guarded in _OLLAMA
            ),
            Route(
                "/api/blobs/{digest}",
                endpoint(stored.post_blob, dialect=ollama.DIALECT, streamed=True),
                methods=["POST"],
            ),
            WebSocketRoute("/v1/realtime", RealtimeDoor(gateway, realtime, fetching)),
        ],
        middleware=[Middleware(Cors, origins)],
        exception_handlers={HTTPException: _misrouted, Exception: _broken},
        lifespan=lifespan,
    )


def _misrouted(request: Request, error: Exception) -> Response:
    """A path or a method that does not exist, in the shape of the API that has such paths."""
    return _api(request).routing_error(request, error)


def _broken(request: Request, error: Exception) -> Response:
    """A fault that nothing foresaw, in the same way."""
    return _api(request).internal_error(request, error)


def _api(request: Request) -> ModuleType:
    """The errors of the API that the path belongs to."""
    return next((api for api in (anthropic, ollama) if api.is_ours(request)), openai)
