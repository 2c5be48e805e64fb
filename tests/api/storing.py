"""A real server around a store of models, without a model that it serves: up in a moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tutti.api.app import create_app
from tutti.api.server import listen, make_server
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import ApiKeys
from tutti.hub.store import Store


@contextmanager
def storing(
    store: Store | None,
    *,
    keys: tuple[str, ...] = (),
    origins: Sequence[str] = (),
    max_body: int = 64_000_000,
) -> Iterator[str]:
    """The address of such a server."""
    import asyncio

    ready, address = threading.Event(), []

    def announce(url: str) -> None:
        address.append(url)
        ready.set()

    app = create_app(Gateway([], ApiKeys(keys)), max_body=max_body, store=store, origins=origins)
    server = make_server(app, drain=2, ready=announce)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve([listen("127.0.0.1", 0)])), name="server", daemon=True
    )
    thread.start()
    assert ready.wait(60)
    try:
        yield address[0]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
