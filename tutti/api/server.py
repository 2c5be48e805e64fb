"""The HTTP server: uvicorn, set up for many long streams."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from tutti.api.realtime.limits import MAX_FRAME
from tutti.errors import ConfigError

_BACKLOG = 4096  # connections that may wait to be accepted
_KEEP_ALIVE = 75  # seconds; longer than clients keep idle connections, so that none is closed under a request


class Server(uvicorn.Server):
    """uvicorn's server, which tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")


async def serve(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    drain: float = 10.0,
    ready: Callable[[str], None] = lambda url: print(f"Tutti is ready: {url}/v1", flush=True),
) -> None:
    """Serve `app` until a signal (SIGINT, SIGTERM) or cancellation; port 0 takes a free one.

    Requests under way then have `drain` seconds to end. `ready` gets the address once connections are accepted.
    Raises ConfigError when the address cannot be used.
    """
    await make_server(app, drain=drain, ready=ready).serve([listen(host, port)])


def make_server(
    app: ASGIApp, *, drain: float = 10.0, ready: Callable[[str], None] = lambda url: None
) -> Server:
    """A server to be run by the caller, who ends it by `server.should_exit = True`."""
    _raise_file_limit()
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,  # sound hardly shrinks, and what unpacks is a way to attack
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(drain),
        access_log=False,
        log_config=None,
        server_header=False,
    )
    return Server(config, ready)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    listener = bind(host, port)
    listener.listen(_BACKLOG)
    return listener


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the address and accepts nobody before a server runs on it. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], found[1])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}; choose another --port or --host"
        ) from error
    listener.setblocking(False)
    return listener


def _raise_file_limit() -> None:
    """Every connection is an open file; the usual soft limit of 1,024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
