"""Registries that want a password get the one that Docker keeps for them, over real HTTP; nobody else gets it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.registry import IMAGE, Registry, serve_registry
from tutti.errors import ConfigError, Unauthorized
from tutti.hub.credentials import Credential, find_credential, is_hub
from tutti.hub.manifest import CONFIG_TYPE, write_manifest
from tutti.hub.names import parse_name
from tutti.hub.pull import pull
from tutti.hub.push import push
from tutti.hub.registry import Options
from tutti.hub.store import Store
from tutti.settings import Settings

PASSWORD = "ann:open:sesame"
OPTIONS = Options(insecure=True, tries=1, timeout=5)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        running.token = "a-token"
        running.password = PASSWORD
        running.add("me/tiny", b"GGUF" + bytes(300_000))
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's folder."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def write(docker: Path, **content: object) -> None:
    (docker / "config.json").write_text(json.dumps({"HttpHeaders": {"X": "y"}, **content}))


def entry(password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(password.encode()).decode()}


def pulled(store: Store, registry: Registry) -> None:
    async def work() -> None:
        async for _ in pull(store, registry.name("me/tiny"), OPTIONS):
            pass

    asyncio.run(work())


def secrets_told(registry: Registry) -> set[str]:
    """The paths to which an Authorization came that is a password."""
    return {
        path.partition("?")[0]
        for _, path, headers in registry.seen
        if headers.get("authorization", "").startswith("Basic")
    }


def test_the_token_service_is_told_the_password_and_nobody_else(
    registry: Registry, store: Store, docker: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write(docker, auths={"other.example.org": entry("bob:x"), f"127.0.0.1:{registry.port}": entry()})
    pulled(store, registry)
    assert store.get(registry.name("me/tiny"))
    assert secrets_told(registry) == {"/token"}
    storage = [headers for _, path, headers in registry.seen if path.startswith("/storage/")]
    assert storage
    assert not any("authorization" in headers for headers in storage)
    assert "sesame" not in caplog.text
    assert entry()["auth"] not in caplog.text


def test_a_push_goes_the_same_way(registry: Registry, store: Store, docker: Path) -> None:
    write(docker, auths={f"http://127.0.0.1:{registry.port}/v2/": entry()})
    name = registry.name("ann/mine")
    lease = store.lease()
    layers = [store.put(b"GGUF and more", f"{IMAGE}model", lease)]
    store.write(parse_name(name), write_manifest(store.put(b"{}", CONFIG_TYPE, lease), layers))
    lease.release()

    async def work() -> None:
        async for _ in push(store, name, OPTIONS):
            pass

    asyncio.run(work())
    assert registry.manifests["ann/mine:latest"] == store.get(name).manifest.raw


def test_a_registry_without_tokens_is_told_the_password_itself(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch, docker: Path
) -> None:
    registry.token, registry.basic = None, True
    auths = {f"127.0.0.1:{registry.port}": {"username": "ann", "password": "open:sesame"}}
    monkeypatch.setenv("TUTTI_REGISTRY_AUTH", json.dumps({"auths": auths}))
    pulled(store, registry)
    assert all(path.startswith("/v2/") for path in secrets_told(registry))
    assert secrets_told(registry)


def test_a_hub_is_told_its_token_and_no_other_host(
    registry: Registry, store: Store, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", registry.url)
    with pytest.raises(Unauthorized, match="HF_TOKEN set to a token of yours"):
        pulled(store, registry)
    registry.seen.clear()
    monkeypatch.setenv("HF_TOKEN", "a-token")
    pulled(store, registry)
    told = {path.split("/")[1]: headers.get("authorization") for _, path, headers in registry.seen}
    assert told == {"v2": "Bearer a-token", "storage": None}


def test_a_registry_that_is_no_hub_is_not_told_the_hubs_token(
    registry: Registry, store: Store, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token")
    monkeypatch.setenv("HF_ENDPOINT", registry.url.replace("http:", "https:"))
    with pytest.raises(Unauthorized, match="docker login"):
        pulled(store, registry)
    assert not any("authorization" in headers for _, _, headers in registry.seen)


@pytest.mark.parametrize(
    ("url", "hub"),
    [
        ("https://hf.co/v2/a", True),
        ("https://huggingface.co/a", True),
        ("http://hf.co/v2/a", False),
        ("https://hf.co.example.org/v2/a", False),
        ("https://hf.co@example.org/v2/a", False),
    ],
)
def test_hubs_are_known_by_scheme_and_host(url: str, hub: bool) -> None:
    assert is_hub(Settings(), url) is hub


def test_an_identity_token_is_exchanged(registry: Registry, store: Store, docker: Path) -> None:
    registry.identity = "long-lived"
    write(docker, auths={f"127.0.0.1:{registry.port}": {"identitytoken": "long-lived"}})
    pulled(store, registry)
    assert registry.asked("POST", "/token") == 1


def test_a_helper_is_asked(
    registry: Registry, store: Store, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"127.0.0.1:{registry.port}"
    helper = docker / "docker-credential-vault"
    answer = json.dumps({"ServerURL": host, "Username": "ann", "Secret": "open:sesame"})
    helper.write_text(
        f"#!/bin/sh\nread host\n[ $1 = get ] && [ $host = {host} ] && echo '{answer}' && exit\n"
        "echo credentials not found in native keychain\nexit 1\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker), prepend=":")
    write(docker, credHelpers={host: "vault"})
    pulled(store, registry)
    write(docker, credsStore="vault", auths={"b.example.org": entry()})
    found = asyncio.run(find_credential(Settings(docker_config=str(docker)), "b.example.org"))
    assert found == Credential("ann", "open:sesame")
    write(docker, credsStore="absent")
    with pytest.raises(ConfigError, match=r"docker-credential-absent.* is not installed"):
        asyncio.run(find_credential(Settings(docker_config=str(docker)), "b.example.org"))


def test_without_a_password_or_with_a_wrong_one_it_is_said_what_to_do(
    registry: Registry, store: Store, docker: Path
) -> None:
    host = f"127.0.0.1:{registry.port}"
    with pytest.raises(Unauthorized, match=rf"{host} wants a password: give it by docker login {host}"):
        pulled(store, registry)
    write(docker, auths={host: entry("ann:wrong-one")})
    with pytest.raises(Unauthorized, match="does not take the password") as told:
        pulled(store, registry)
    assert "wrong-one" not in str(told.value)
    registry.token, registry.basic = None, True
    with pytest.raises(Unauthorized, match=r"does not let us \(401\)"):
        pulled(store, registry)


@pytest.mark.parametrize("content", ["{", '{"auths": 3}', '{"auths": {"a": {"auth": "!"}}}'])
def test_what_docker_did_not_write_is_a_typed_error(docker: Path, content: str) -> None:
    (docker / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"docker login|base64"):
        asyncio.run(find_credential(Settings(docker_config=str(docker)), "a"))


def test_what_is_found_does_not_show_itself() -> None:
    assert "sesame" not in repr(Credential("ann", "sesame"))
