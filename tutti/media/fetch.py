"""Bytes from where a caller's URL points: `data:` URIs, http(s), and files that the operator allows.

A stranger's URL may aim at the operator's own network, name a file that is none of its business, answer forever or
hugely, or redirect to any of that. So: bytes, seconds and redirects are limited, every hop is checked again, and the
address that was checked is the one connected to (a name is resolved once: it cannot answer differently the second
time). No cookies, no credentials and no proxy of the environment take part.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import socket
import stat
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

from tutti.errors import FetchError
from tutti.media.addresses import trouble
from tutti.settings import Settings, format_size

if TYPE_CHECKING:
    import ssl

    import httpx

_LONG = 1 << 20  # characters of a data URI; decoding more than these would hold up an event loop
_SHOWN = 120  # characters of a URL in a message


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetch may cost and reach. `seconds` is for all of it, redirects and slow answers included.

    `allow_private`: also addresses that are not public. `allowed_local_paths`: folders whose files may be read.
    """

    most_bytes: int = 100_000_000
    seconds: float = 30.0
    redirects: int = 3
    allow_private: bool = False
    allowed_local_paths: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> FetchLimits:
        """As the operator set them."""
        return cls(
            settings.media_max_bytes,
            settings.media_timeout,
            settings.media_max_redirects,
            settings.media_allow_private,
            settings.media_folders,
        )


async def fetch(url: str, limits: FetchLimits) -> bytes:
    """What `url` holds: a `data:` URI, an http(s) URL, a `file:` URL or the path of a file. Raises FetchError."""
    scheme = url[:32].partition(":")[0].lower()
    if scheme == "data":
        return (
            read_data(url, limits) if len(url) <= _LONG else await asyncio.to_thread(read_data, url, limits)
        )
    if scheme in ("http", "https"):
        return await _fetch_http(url, limits)
    if scheme == "file" or url.startswith(("/", "./", "../")):
        return await asyncio.to_thread(_read_file, url, limits)
    raise FetchError(
        f"{_shown(url)} is not fetched: only http, https, data and (where the operator allows it) file URLs are"
    )


def read_data(uri: str, limits: FetchLimits) -> bytes:
    """The bytes in a `data:` URI (RFC 2397), base64 or percent-encoded. Raises FetchError."""
    head, comma, body = uri.partition(",")
    if not comma:
        raise FetchError("a data URI must have a comma before its data: data:image/png;base64,...")
    if head.lower().endswith(";base64"):
        return decode_base64(unquote(body) if "%" in body[:_SHOWN] or "%" in body[-8:] else body, limits)
    _check_size(len(body) - 2 * body.count("%"), limits)
    return unquote_to_bytes(body)


def decode_base64(text: str, limits: FetchLimits) -> bytes:
    """The bytes of base64 text of either alphabet, padded or not. Raises FetchError."""
    _check_size(len(text) * 3 // 4 - 2, limits)
    try:
        raw = text.encode("ascii").translate(_URL_SAFE, b" \t\r\n=")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise FetchError(f"the data are not valid base64 ({error})") from error


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _check_size(size: int, limits: FetchLimits) -> None:
    if size > limits.most_bytes:
        raise FetchError(
            f"the file has {format_size(size)} or more; at most {format_size(limits.most_bytes)} are taken: "
            "send a smaller one"
        )


# Files of this machine


def _read_file(url: str, limits: FetchLimits) -> bytes:
    """A file under an allowed folder. What does not exist and what is forbidden look the same to the caller."""
    try:
        path = _local_path(url).resolve(strict=True)
        allowed = any(path.is_relative_to(folder.resolve()) for folder in limits.allowed_local_paths)
        data = _read_regular(path, limits) if allowed else None
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of symbolic links
        data = None
    if data is None:
        raise FetchError(
            f"{_shown(url)} is not a file that this server may read: send its bytes as a data URI, "
            "or have the operator allow its folder (TUTTI_MEDIA_LOCAL_PATHS)"
        )
    return data


def _local_path(url: str) -> Path:
    if url[:5].lower() != "file:":
        return Path(url)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError("a file of another machine")
    return Path(unquote(parts.path))


def _read_regular(path: Path, limits: FetchLimits) -> bytes | None:
    """The file's bytes; None for a folder, a device or a pipe. `path` is resolved: it may have no symbolic link now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        _check_size(found.st_size, limits)
        data = file.read(limits.most_bytes + 1)
        _check_size(len(data), limits)
        return data


# The network


async def _fetch_http(url: str, limits: FetchLimits) -> bytes:
    import httpx

    try:
        async with asyncio.timeout(limits.seconds):
            return await _follow(url, limits)
    except TimeoutError as error:
        raise FetchError(
            f"{_shown(url)} took longer than {limits.seconds:g} seconds: send its bytes instead"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise FetchError(f"{_shown(url)} could not be fetched: {words}") from error


async def _follow(url: str, limits: FetchLimits) -> bytes:
    """The body at the end of the redirects. Raises FetchError, and what httpx raises."""
    import httpx

    target = httpx.URL(url)
    # No connection is kept: one made for a host must not serve another that has the same address.
    kept = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=kept) as network:
        for _ in range(limits.redirects + 1):
            response = await _ask(network, target, limits)
            try:
                if not response.has_redirect_location:
                    return await _body(response, target, limits)
                target = target.join(response.headers["location"])
            finally:
                await response.aclose()
    raise FetchError(f"{_shown(url)} redirects more than {limits.redirects} times: send the final URL")


async def _ask(network: httpx.AsyncHTTPTransport, url: httpx.URL, limits: FetchLimits) -> httpx.Response:
    """The answer of the first of the host's addresses that can be reached. Raises FetchError, and what httpx raises."""
    import httpx

    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 0xFFFF:
        raise FetchError(f"{_shown(str(url))} is not fetched: only http and https URLs are")
    if url.userinfo:
        raise FetchError(
            "a URL with a user name or a password in it is not fetched: send the file's bytes instead"
        )
    # The name travels in the Host header and in TLS, where the certificate is checked against it.
    headers = {"Host": url.netloc.decode("ascii"), "User-Agent": "tutti", "Accept-Encoding": "identity"}
    addresses = await _resolve(url, limits)
    extensions = {"sni_hostname": _host(url), "timeout": {"connect": limits.seconds / len(addresses)}}
    failure: httpx.TransportError | None = None
    for address in addresses:
        request = httpx.Request("GET", url.copy_with(host=address), headers=headers, extensions=extensions)
        try:
            return await network.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure or FetchError(f"{_shown(str(url))} has no address")


async def _resolve(url: httpx.URL, limits: FetchLimits) -> list[str]:
    """The addresses of the URL's host, all of them checked. Raises FetchError, OSError."""
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(_host(url), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses if not limits.allow_private else ():
        why = trouble(ip_address(text))
        if why is not None:
            raise FetchError(
                f"{_shown(str(url))} leads to a {why} address, and only public ones are fetched from: send the file's "
                "bytes, or have the operator allow it (TUTTI_MEDIA_ALLOW_PRIVATE)"
            )
    return addresses


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").strip("[]")


async def _body(response: httpx.Response, url: httpx.URL, limits: FetchLimits) -> bytes:
    """The body, as far as it may go: what the header says of its length is believed only if it is too much."""
    where = _shown(str(url))
    if response.status_code != 200:
        raise FetchError(f"{where} answered with status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise FetchError(
            f"{where} answered in compressed form, which was not asked for: send the file's bytes instead"
        )
    length = response.headers.get("content-length", "")
    if length.isdecimal():
        _check_size(int(length), limits)
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        _check_size(size, limits)
        pieces.append(piece)
    if not size:
        raise FetchError(f"{where} answered with an empty file")
    return b"".join(pieces)


@cache
def _tls() -> ssl.SSLContext:
    """The certificates that are trusted (SSL_CERT_FILE adds the operator's own); reading them takes a while."""
    import httpx

    return httpx.create_ssl_context()


def _shown(url: str) -> str:
    """A URL for a message: short, without credentials, query or control characters."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        url = SplitResult(parts.scheme, host, parts.path, "", "").geturl()
    except ValueError:
        url = url.partition("?")[0].rpartition("@")[2]
    clean = "".join(letter if letter.isprintable() else "?" for letter in url)
    return clean if len(clean) <= _SHOWN else f"{clean[: _SHOWN - 3]}..."
