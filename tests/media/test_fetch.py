"""Media are fetched from where the caller says, and from nowhere the caller has no business with."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.server import BODY, Site, site
from tutti.errors import FetchError
from tutti.media import fetch as module
from tutti.media.fetch import FetchLimits, fetch, read_data
from tutti.settings import Settings

STRICT = FetchLimits()
LOOPBACK = FetchLimits(allow_private=True, seconds=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site() as running:
        yield running


async def refused(url: str, words: str, limits: FetchLimits = LOOPBACK) -> FetchError:
    with pytest.raises(FetchError, match=words) as caught:
        await fetch(url, limits)
    assert caught.value.status == 400
    return caught.value


# Data URIs


@given(st.binary(max_size=200))
def test_base64_in_every_spelling(data: bytes) -> None:
    plain = base64.b64encode(data).decode()
    spellings = (
        plain,
        plain.rstrip("="),
        base64.urlsafe_b64encode(data).decode(),
        plain.replace("=", "%3D").replace("+", "%2B"),
        "\n".join(plain[k : k + 76] for k in range(0, len(plain), 76)),
    )
    for text in spellings:
        assert read_data(f"data:image/png;base64,{text}", STRICT) == data


@given(st.binary(max_size=100))
def test_percent_encoding(data: bytes) -> None:
    assert read_data("data:," + "".join(f"%{byte:02X}" for byte in data), STRICT) == data


async def test_a_long_data_uri() -> None:
    data = bytes(3_000_000)
    assert await fetch(f"data:video/mp4;base64,{base64.b64encode(data).decode()}", STRICT) == data


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,AAAA*", "not valid base64"),
        ("data:image/png;base64,Aé==", "not valid base64"),
        ("data:image/png;base64,A", "not valid base64"),
        ("data:image/png;base64," + "A" * 2000, r"1\.5 kB or more; at most 1 kB"),
        ("data:text/plain," + "A" * 2000, "at most 1 kB"),
    ],
)
async def test_bad_data_uris(uri: str, words: str) -> None:
    await refused(uri, words, FetchLimits(most_bytes=1000))


# The network


async def test_a_url_is_fetched(server: Site) -> None:
    assert await fetch(f"{server.url}/ok?size=large#part", LOOPBACK) == BODY
    path, headers = server.seen[-1]
    assert path == "/ok" and headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/ok",
        "http://localhost:{port}/ok",
        "http://127.1:{port}/ok",
        "http://2130706433:{port}/ok",
        "http://0x7f000001:{port}/ok",
        "http://0.0.0.0:{port}/ok",
        "http://[::1]:{port}/ok",
        "http://[::ffff:127.0.0.1]:{port}/ok",
        "http://[::ffff:7f00:1]:{port}/ok",
        "http://[64:ff9b::7f00:1]:{port}/ok",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ],
)
async def test_addresses_that_are_not_public_are_refused_unless_allowed(server: Site, url: str) -> None:
    before = len(server.seen)
    await refused(url.format(port=server.port), "only public ones", STRICT)
    assert len(server.seen) == before


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    assert await fetch(f"http://pictures.test:{server.port}/ok", LOOPBACK) == BODY
    assert asked == ["pictures.test"]
    assert server.seen[-1][1]["host"] == f"pictures.test:{server.port}"


async def test_one_private_address_among_public_ones_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("93.184.216.34", "10.0.0.1")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    error = await refused("http://pictures.test/a.png", "private address", STRICT)
    assert "10.0.0.1" not in error.message  # the operator's network is not told


async def test_the_next_address_is_tried_when_one_does_not_answer(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    assert await fetch(f"http://pictures.test:{server.port}/ok", LOOPBACK) == BODY
    await refused(f"http://pictures.test:{nobody}/ok", "could not be fetched")


async def test_redirects_are_followed_so_often(server: Site) -> None:
    there = f"{server.url}/to?url=/to?url=/ok"
    assert await fetch(there, LOOPBACK) == BODY
    assert "cookie" not in server.seen[-1][1]
    await refused(there, "redirects more than 1 times", replace(LOOPBACK, redirects=1))
    await refused(f"{server.url}/loop", "redirects more than 3 times")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "data:,x"]
)
async def test_a_redirect_leads_to_the_web_only(server: Site, target: str) -> None:
    await refused(f"{server.url}/to?url={target}", "only http and https")


async def test_every_hop_is_checked(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host counts as public here; it redirects to one that does not."""
    monkeypatch.setattr(module, "trouble", lambda address: "private" if str(address) == "127.0.0.2" else None)
    assert await fetch(f"{server.url}/to?url=/ok", STRICT) == BODY
    before = len(server.seen)
    await refused(f"{server.url}/to?url=http://127.0.0.2:{server.port}/ok", "private address", STRICT)
    assert len(server.seen) == before + 1


async def test_credentials_in_a_url_are_not_sent(server: Site) -> None:
    before = len(server.seen)
    error = await refused(f"http://me:secret@127.0.0.1:{server.port}/ok", "user name or a password")
    assert len(server.seen) == before and "secret" not in error.message
    await refused(f"{server.url}/to?url=http://me:secret@127.0.0.1/ok", "user name or a password")


async def test_an_endless_answer_is_cut_at_the_limit(server: Site) -> None:
    server.sent = 0
    await refused(f"{server.url}/endless", "at most 50 kB", replace(LOOPBACK, most_bytes=50_000))
    assert server.sent < 20_000_000


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/huge", "1e\\+03 GB or more|1 TB or more"),
        ("/short", "could not be fetched"),
        ("/gzip", "compressed form"),
        ("/empty", "empty file"),
        ("/missing?token=hidden", "/missing answered with status 404"),
    ],
)
async def test_bad_answers_are_named(server: Site, path: str, words: str) -> None:
    error = await refused(f"{server.url}{path}", words)
    assert "hidden" not in error.message


async def test_a_slow_answer_ends_at_the_time_limit(server: Site) -> None:
    start = time.monotonic()
    await refused(f"{server.url}/slow", r"longer than 0\.3 seconds", replace(LOOPBACK, seconds=0.3))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/a.png", "only http, https, data"),
        ("javascript:alert(1)", "only http, https, data"),
        ("a.png", "only http, https, data"),
        ("", "only http, https, data"),
        ("http://", "only http and https|could not"),
        ("http:///path", "only http and https|could not"),
        ("http://[", "could not be fetched"),
        ("http://exa mple.com/", "could not be fetched"),
        ("http://a.invalid/x.png", "could not be fetched"),
        ("http://127.0.0.1:99999/", "only http and https"),
        (f"http://{'a' * 300}.com/", "could not be fetched"),
    ],
)
async def test_what_is_no_url_is_named(url: str, words: str) -> None:
    await refused(url, words)


@given(st.text(max_size=60), st.sampled_from(["", "data:", "data:;base64,", "http://", "file:", "/"]))
def test_any_text_raises_nothing_else(text: str, scheme: str) -> None:
    """Nothing is allowed here, so no name is looked up that is not an address."""
    if scheme == "http://":
        text = f"127.0.0.1:1/{text}"
    with contextlib.suppress(FetchError):
        asyncio.run(fetch(scheme + text, STRICT))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_certificate_is_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pictures.test "
        f"-addext subjectAltName=DNS:pictures.test -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    names: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    module._tls.cache_clear()
    try:
        with site(tls) as secure:
            assert await fetch(f"https://pictures.test:{secure.port}/ok", LOOPBACK) == BODY
            assert names == ["pictures.test"]
            await refused(f"https://other.test:{secure.port}/ok", "could not be fetched")
    finally:
        module._tls.cache_clear()


# Files of this machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    allowed = tmp_path / "allowed pictures"
    (allowed / "deep").mkdir(parents=True)
    (allowed / "a.png").write_bytes(BODY)
    (allowed / "deep" / "b.png").write_bytes(BODY)
    (tmp_path / "secret").write_bytes(b"secret")
    return allowed


async def test_files_under_an_allowed_folder_are_read(folder: Path) -> None:
    limits = FetchLimits(allowed_local_paths=(folder,))
    for url in (
        str(folder / "a.png"),
        (folder / "deep" / "b.png").as_uri(),
        f"file://localhost{folder}/a.png",
    ):
        assert await fetch(url, limits) == BODY


async def test_the_folder_may_be_a_link_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert (
        await fetch(f"{tmp_path}/link/a.png", FetchLimits(allowed_local_paths=(tmp_path / "link",))) == BODY
    )


async def test_no_file_is_read_unless_the_operator_allows_it(folder: Path) -> None:
    await refused(str(folder / "a.png"), "TUTTI_MEDIA_LOCAL_PATHS", STRICT)
    await refused((folder / "a.png").as_uri(), "TUTTI_MEDIA_LOCAL_PATHS", STRICT)


async def test_ways_out_of_the_folder_are_closed(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "round")
    os.mkfifo(folder / "pipe")
    (tmp_path / "allowed pictures and more").mkdir()
    (tmp_path / "allowed pictures and more" / "c").write_bytes(b"secret")
    limits = FetchLimits(allowed_local_paths=(folder,))
    for path in (
        f"{folder}/../secret",
        f"file://{folder}/%2e%2e/secret",
        f"{folder}/link",
        f"{folder}/up/secret",
        f"{folder}/round",
        f"{folder}/pipe",
        f"{folder}/deep",
        f"{folder}/nothing",
        f"{folder} and more/c",
        f"{folder}/a.png\0",
        f"file://elsewhere{folder}/a.png",
        "/etc/passwd",
        "/dev/zero",
    ):
        error = await refused(path, "not a file that this server may read", limits)
        assert "secret" not in error.message.replace("/secret", "")


async def test_a_large_file_is_refused(folder: Path) -> None:
    limits = FetchLimits(most_bytes=100, allowed_local_paths=(folder,))
    await refused(f"{folder}/a.png", "at most 100 B", limits)


def test_the_operator_sets_the_limits() -> None:
    settings = Settings(media_max_bytes=5, media_timeout=2.0, media_local_paths=f"/a{os.pathsep}/b c")
    assert FetchLimits.of(settings) == FetchLimits(5, 2.0, 3, False, (Path("/a"), Path("/b c")))
    assert FetchLimits.of(Settings()) == FetchLimits()
