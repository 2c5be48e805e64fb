"""Whose web pages may use the server: by default local ones, whatever the door; the operator names others."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.api.storing import storing

DOORS = ("/api/version", "/v1/models", "/health", "/v1/nothing")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with storing(None, origins=("https://chat.example.org", "http://*.lan:8080")) as url:
        yield url


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "http://localhost:3000", "https://127.0.0.1:8443", "http://0.0.0.0:5173", "app://obsidian.md",
        "file://", "tauri://localhost", "vscode-webview://1a2b3c", "vscode-file://vscode-app",
        "https://chat.example.org", "http://nas.lan:8080",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", DOORS)
def test_a_page_that_may_reads_the_answer(url: str, origin: str, path: str) -> None:
    response = httpx.get(url + path, headers={"Origin": origin})
    assert response.status_code in (200, 404)
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in response.headers
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://localhost.evil.example", "http://localhost:80.evil.example", "null",
        "https://localhost@evil.example", "https://chat.example.org.evil.example", "http://chat.example.org",
        "http://evil.example/.lan:8080", "http://nas.lan:80800000", "https://chat.example.org:8443",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_page_that_may_not_is_refused_before_anything_is_done(url: str, origin: str, method: str) -> None:
    response = httpx.request(method, f"{url}/api/delete", headers={"Origin": origin}, content=b"{}")
    assert (response.status_code, response.content) == (403, b"")
    assert "access-control-allow-origin" not in response.headers


def test_programs_and_the_servers_own_pages_are_asked_nothing(url: str) -> None:
    for headers in ({}, {"Origin": url}):
        response = httpx.get(f"{url}/api/version", headers=headers)
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers


def test_a_preflight_is_answered_for_every_path_and_allows_the_headers_it_asks_for(url: str) -> None:
    asked = "authorization,content-type,x-stainless-os,x-api-key,anthropic-version"
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/api/delete"):
        headers = {
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": asked,
        }
        response = httpx.options(url + path, headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert response.headers["access-control-allow-headers"] == asked
        assert "DELETE" in response.headers["access-control-allow-methods"]
        assert int(response.headers["access-control-max-age"]) > 0
        assert "Origin" in response.headers["vary"]
        assert "access-control-allow-credentials" not in response.headers


def test_a_star_is_for_everybody_and_still_without_credentials() -> None:
    with storing(None, origins=("*",), keys=("secret",)) as url:
        headers = {"Origin": "https://anywhere.example"}
        for response in (httpx.get(f"{url}/api/tags", headers=headers), httpx.options(url, headers=headers)):
            assert response.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in response.headers
        assert httpx.get(f"{url}/api/tags", headers=headers).status_code == 401


async def test_a_conversation_is_opened_by_pages_that_may(url: str) -> None:
    address = f"ws{url.removeprefix('http')}/v1/realtime?model=none"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, origin="https://evil.example"):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as absent:
        async with connect(address, origin="http://localhost:3000"):  # type: ignore[arg-type]
            pass
    assert absent.value.response.status_code == 404  # the door was open: there is no such model
