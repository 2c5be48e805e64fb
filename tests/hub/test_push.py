"""Pushing over real HTTP: what the registry has is not sent, a cut upload goes on, a pull brings the same back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.registry import IMAGE, Registry, serve_registry
from tutti.errors import InvalidRequest, ModelNotFound, Unauthorized
from tutti.hub.manifest import CONFIG_TYPE, write_manifest
from tutti.hub.names import parse_name
from tutti.hub.progress import Progress
from tutti.hub.pull import pull
from tutti.hub.push import push
from tutti.hub.registry import Options
from tutti.hub.store import Store

WEIGHTS = b"GGUF" + random.Random(2).randbytes(600_000)
OPTIONS = Options(insecure=True, part_max=250_000, pause=0.01, timeout=5)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def put(store: Store, model: str, template: bytes = b"T") -> None:
    lease = store.lease()
    layers = [store.put(WEIGHTS, f"{IMAGE}model", lease), store.put(template, f"{IMAGE}template", lease)]
    store.write(parse_name(model), write_manifest(store.put(b"{}", CONFIG_TYPE, lease), layers))
    lease.release()


def pushed(store: Store, name: str, options: Options = OPTIONS) -> list[Progress]:
    async def collect() -> list[Progress]:
        return [progress async for progress in push(store, name, options)]

    return asyncio.run(collect())


def test_what_is_pushed_is_pulled_the_same(registry: Registry, store: Store, tmp_path: Path) -> None:
    registry.token = "secret"
    name = registry.name("me/tiny:x")
    put(store, name)
    said = pushed(store, name)
    assert [one.status for one in said][:1] + [one.status for one in said][-2:] == [
        "retrieving manifest",
        "pushing manifest",
        "success",
    ]
    assert any(one.status.startswith("pushing ") and one.completed == one.total > 0 for one in said)
    assert registry.manifests["me/tiny:x"] == store.get(name).manifest.raw
    other = Store(tmp_path / "other")

    async def fetch() -> None:
        async for _ in pull(other, name, OPTIONS):
            pass

    asyncio.run(fetch())
    assert other.get(name).manifest.digest == store.get(name).manifest.digest


def test_blobs_that_the_registry_has_are_not_sent(registry: Registry, store: Store) -> None:
    put(store, registry.name("me/a"))
    put(store, registry.name("me/b"), b"another template")
    pushed(store, registry.name("me/a"))
    patches = registry.asked("PATCH", "uploads")
    assert patches == 3 + 1 + 1  # three parts of the weights
    pushed(store, registry.name("me/b"))
    assert registry.asked("PATCH", "uploads") == patches + 1


def test_an_upload_that_is_cut_goes_on_where_it_was(registry: Registry, store: Store) -> None:
    put(store, registry.name("me/a"))
    registry.upload_cuts = [0, 0, 100_000, 50_000]
    registry.failures = [500]
    pushed(store, registry.name("me/a"))
    assert WEIGHTS in registry.blobs.values()


def test_what_cannot_be_pushed_is_said(registry: Registry, store: Store) -> None:
    with pytest.raises(ModelNotFound, match="not found"):
        pushed(store, registry.name("me/nosuch"))
    put(store, registry.name("me/a"))
    with pytest.raises(InvalidRequest, match="insecure protocol http"):
        pushed(store, registry.name("me/a"), Options())
    registry.failures = [403]
    with pytest.raises(Unauthorized, match="unauthorized"):
        pushed(store, registry.name("me/a"))
