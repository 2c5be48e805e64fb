"""A real server with a real engine on a tiny random checkpoint, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import openai

from tests.models.checkpoints import make
from tutti.api.app import create_app
from tutti.api.realtime.limits import RealtimeLimits
from tutti.api.server import Server, listen, make_server
from tutti.engine.client import EngineClient
from tutti.engine.local import LocalEngine
from tutti.engine.wire import EngineStats
from tutti.gateway.backend import Backend
from tutti.gateway.catalog import Catalog
from tutti.gateway.composed.opening import open_composition
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import ApiKeys
from tutti.gateway.limits import Limits
from tutti.gateway.local import LocalBackend
from tutti.gateway.manager import Manager, Policy
from tutti.media.fetch import FetchLimits
from tutti.models.processor import load_processor
from tutti.settings import EngineOptions

T = TypeVar("T")
CONTEXT = 4096
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def checkpoint() -> Path:
    """A random model of three small layers over bytes, with room for 4,096 of them."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-served-")
    _KEPT.append(folder)
    path = make("qwen3", Path(folder.name) / "tiny")
    config = json.loads((path / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (path / "config.json").write_text(json.dumps(config))
    return path


class Serving:
    """What a test sees of a server."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, gateway: Gateway, engine: EngineClient | None
    ) -> None:
        self.loop = loop
        self.url = url
        self.gateway = gateway
        self.engine = engine
        self.clients: list[openai.OpenAI] = []

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        return self.call(self.gateway.served[0].backend.stats())

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client of this server."""
        return openai.OpenAI(
            **{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60, **options}
        )

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        """The official asynchronous client of this server."""
        return openai.AsyncOpenAI(
            **{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60, **options}
        )

    def everything_is_returned(self) -> None:
        """Wait until nothing runs; then every block and every place must be free."""
        until(lambda: (stats := self.stats()).running == stats.waiting == 0)
        stats = self.stats()
        assert stats.blocks_free == stats.blocks_total
        assert self.gateway.served[0].admission.inside == 0


@contextmanager
def serving(
    *,
    keys: tuple[str, ...] = (),
    limits: Limits | None = None,
    make_engine: Callable[[EngineOptions], EngineClient] = LocalEngine,
    max_body: int = 64_000_000,
    fetching: FetchLimits | None = None,
    realtime: RealtimeLimits | None = None,
    beside: Mapping[str, str] | None = None,
    composed: bool | None = None,
    videos: Path | None = None,
    **options: Any,
) -> Iterator[Serving]:
    """A server; `options` are `EngineOptions`. `beside` are other models that it serves: checkpoints by name.

    `composed`: the model is a graph by file, with its parts in this process or (False) in processes of their own.
    """
    settings = {"model": str(checkpoint()), "served_model_name": ("tiny", "alias"), "dtype": "float32"}
    settings |= {"kv_cache_memory_bytes": 64_000_000, "threads": 1, "device": "cpu", **options}
    engine_options = EngineOptions(**settings)

    async def make() -> tuple[Gateway, EngineClient | None]:
        engine: EngineClient | None = None
        backends: list[Backend] = []
        if composed is None:
            engine = make_engine(engine_options)
            processor = load_processor(engine_options.model, template=engine_options.template)
            backends.append(await LocalBackend.open(processor, engine, engine_options.served_model_name))
        else:
            backends.append(await open_composition(engine_options, in_process=composed))
        for name, path in (beside or {}).items():
            other = EngineOptions(**(settings | {"model": path, "served_model_name": (name,)}))
            backends.append(await LocalBackend.open(load_processor(path), make_engine(other), (name,)))
        return Gateway(backends, ApiKeys(keys), limits), engine

    patience = 180 if composed is None else 280  # several engines, each of which loads torch
    with running(
        make, patience, max_body=max_body, fetching=fetching, realtime=realtime, videos=videos
    ) as served:
        yield served


@contextmanager
def managing(
    catalog: Catalog, policy: Policy | None = None, *, in_process: bool = True, **options: Any
) -> Iterator[Serving]:
    """A server of the catalog's models, on demand; `options` are `EngineOptions` of every model."""
    settings = {"model": "", "dtype": "float32", "threads": 1, "device": "cpu", **options}

    async def make() -> tuple[Gateway, None]:
        return Gateway(Manager(catalog, EngineOptions(**settings), policy, in_process=in_process)), None

    with running(make, 60) as served:
        yield served


@contextmanager
def running(
    make: Callable[[], Coroutine[Any, Any, tuple[Gateway, EngineClient | None]]],
    patience: float,
    **app_options: Any,
) -> Iterator[Serving]:
    """A server around the gateway that `make` makes on its event loop, in a thread."""
    started: list[Serving] = []
    servers: list[Server] = []
    failures: list[BaseException] = []
    ready = threading.Event()

    async def main() -> None:
        gateway, engine = await make()
        loop = asyncio.get_running_loop()

        def announce(url: str) -> None:
            started.append(Serving(loop, url, gateway, engine))
            ready.set()

        servers.append(make_server(create_app(gateway, **app_options), drain=2, ready=announce))
        await servers[0].serve([listen("127.0.0.1", 0)])

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    assert ready.wait(patience)
    if failures:
        raise failures[0]
    try:
        yield started[0]
    finally:
        servers[0].should_exit = True
        thread.join(30)
    if failures:
        raise failures[0]


def until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """Wait for `condition`, at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


async def until_async(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """The same on an event loop."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)
