"""HTTP with a registry: where it is, who we are to it, and what its answers mean.

A registry asks for a token by a 401 whose `WWW-Authenticate` says where to get one. It sends blobs from other hosts,
by redirects; our token goes to the registry's own host only. What fails for the moment (a connection, a 5xx, a 429) is
tried again with growing pauses; what fails for good is a typed error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

import tutti
from tutti.errors import InvalidRequest, ModelNotFound, TransferError, TuttiError, Unauthorized
from tutti.hub.names import ModelName

T = TypeVar("T")

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MAX_REDIRECTS = 5
_MAX_ANSWER = 1 << 20  # bytes of an answer that is no blob and no manifest


@dataclass(frozen=True, slots=True)
class Options:
    """How to transfer. Sizes in bytes, times in seconds."""

    insecure: bool = False  # plain http where the name says so, and certificates that nobody signed
    connections: int = 16  # at once, for all blobs together
    part_min: int = 100_000_000
    part_max: int = 1_000_000_000
    tries: int = 6  # in a row without any progress
    pause: float = 1.0  # before the second try; doubled for each that follows
    timeout: float = 30.0  # without a byte


class Temporary(Exception):
    """This may go well if it is tried again."""


@dataclass(slots=True)
class Client:
    """Connections to web servers, with one registry's token. Close it when done."""

    options: Options = field(default_factory=Options)
    _tokens: dict[str, str] = field(default_factory=dict)  # by host
    _http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Client:
        options = self.options
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(options.timeout, pool=None),
            limits=httpx.Limits(max_connections=options.connections + 4),
            headers={"User-Agent": f"tutti/{tutti.__version__}", "Accept-Encoding": "identity"},
            verify=not options.insecure,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._http is not None
        await self._http.aclose()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], AsyncGenerator[bytes, None]] | bytes | None = None,
    ) -> AsyncGenerator[httpx.Response, None]:
        """The answer, its body not read yet; redirects of GET and HEAD followed, a token fetched if asked for.

        Raises Temporary, TransferError, Unauthorized. A status from 400 on is an answer like others, but 401, 403, 429
        and 5xx are raised.
        """
        asked_for_token = False
        for _ in range(_MAX_REDIRECTS + 2):
            response = await self._send(method, url, headers or {}, content)
            try:
                if response.status_code == 401 and not asked_for_token:
                    asked_for_token = True
                    await self._authorize(url, response.headers.get("WWW-Authenticate", ""))
                    continue
                location = response.headers.get("Location")
                if method in ("GET", "HEAD") and location and 300 <= response.status_code < 400:
                    url = self._redirected(url, location)
                    continue
                await _judge(response)
                yield response
                return
            except httpx.HTTPError as error:  # while the body is read
                raise Temporary(said(error)) from error
            finally:
                await response.aclose()
        raise TransferError(f"{urlsplit(url).netloc} redirects without end")

    async def retried(
        self, work: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0, advice: str = ""
    ) -> T:
        """`work`, tried again while it raises Temporary. Tries after which `progress` has grown are not counted.

        Raises TransferError with the last reason, and the `advice`.
        """
        tries, before = 0, progress()
        while True:
            try:
                return await work()
            except Temporary as error:
                tries = 1 if progress() > before else tries + 1
                before = progress()
                if tries >= self.options.tries:
                    raise TransferError(f"max retries exceeded: {error}{advice}") from error
                await asyncio.sleep(self.options.pause * 2 ** (tries - 1))

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Callable[[], AsyncGenerator[bytes, None]] | bytes | None,
    ) -> httpx.Response:
        assert self._http is not None
        token = self._tokens.get(urlsplit(url).netloc)
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        body = content() if callable(content) else content
        try:
            request = self._http.build_request(method, url, headers=sent, content=body)
            return await self._http.send(request, stream=True)
        except httpx.InvalidURL as error:
            raise TransferError(f"{url} is no address: {error}") from error
        except httpx.HTTPError as error:
            raise Temporary(f"{urlsplit(url).netloc}: {said(error)}") from error

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https"):
            raise TransferError(f"{urlsplit(url).netloc} redirects to {scheme}:, which is not followed")
        if scheme == "http" and urlsplit(url).scheme == "https" and not self.options.insecure:
            raise TransferError(f"{urlsplit(url).netloc} redirects to plain http; --insecure follows it")
        return target

    async def _authorize(self, url: str, challenge: str) -> None:
        """Get the token that a 401 asks for. Raises Unauthorized, Temporary."""
        assert self._http is not None
        host = urlsplit(url).netloc
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        realm = urljoin(url, asked.get("realm", ""))
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise Unauthorized(f"unauthorized: {host} wants credentials of a kind that Tutti does not have")
        if urlsplit(realm).scheme != "https" and not self.options.insecure:
            raise Unauthorized(f"unauthorized: {host} wants to be asked for a token over plain http")
        query = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
        try:
            response = await self._http.get(realm, params=query, follow_redirects=False)
        except httpx.HTTPError as error:
            raise Temporary(f"{urlsplit(realm).netloc}: {said(error)}") from error
        await _judge(response)
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, object])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Unauthorized(f"unauthorized: {realm} gives no token") from error
        token = answer.get("token") or answer.get("access_token")
        if response.status_code != 200 or not isinstance(token, str) or not token.isprintable():
            raise Unauthorized(f"unauthorized: {urlsplit(realm).netloc} gives no token")
        self._tokens[host] = token


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a registry keeps one model."""

    name: ModelName
    client: Client

    def url(self, *path: str) -> str:
        """The address of something of the model's."""
        scheme = self.name.scheme or "https"
        return "/".join((f"{scheme}://{self.name.host}/v2/{self.name.repository}", *path))


@asynccontextmanager
async def connected(name: ModelName, options: Options) -> AsyncGenerator[Repository, None]:
    """The repository of the model `name`, with connections to it. Raises InvalidRequest on http that may not be."""
    if name.scheme == "http":
        check_secure("http", options)
    async with Client(options) as client:
        yield Repository(name, client)


def check_secure(scheme: str, options: Options) -> None:
    """Raises InvalidRequest unless what comes by `scheme` is encrypted, or need not be."""
    if scheme != "https" and not options.insecure:
        raise InvalidRequest("insecure protocol http; allow it by --insecure, or by insecure in a request")


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """The body of an answer. Raises TransferError beyond `limit` bytes."""
    found = bytearray()
    async for piece in response.aiter_raw(65536):
        found += piece
        if len(found) > limit:
            raise TransferError(f"the answer of {response.url.host} is larger than {limit} bytes")
    return bytes(found)


async def refusal(response: httpx.Response, absent: str) -> TuttiError:
    """The error that an answer from 400 on is; `absent` says what a 404 means."""
    if response.status_code == 404:
        return ModelNotFound(absent)
    try:
        text = (await read_body(response, _MAX_ANSWER)).decode(errors="replace").strip()
    except (httpx.HTTPError, TransferError):
        text = ""
    return TransferError(f"{response.url.host} answers {response.status_code}: {text[:300] or 'nothing'}")


async def _judge(response: httpx.Response) -> None:
    """Raises Unauthorized and Temporary for the statuses that are the same for every question."""
    status, host = response.status_code, response.url.host
    if status in (401, 403):
        raise Unauthorized(f"unauthorized: {host} does not let us ({status})")
    if status in (408, 429) or status >= 500:
        raise Temporary(f"{host} answers {status}")


def said(error: Exception) -> str:
    """What an error of a connection says, or its kind where it says nothing."""
    return str(error) or type(error).__name__
