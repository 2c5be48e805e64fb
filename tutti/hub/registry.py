"""HTTP with a registry: where it is, who we are to it, and what its answers mean.

A registry asks who we are by a 401 whose `WWW-Authenticate` says how: by a token, and where to get one, or by a name
and a password at once (Basic). It sends blobs from other hosts, by redirects. Who we are to a host is told to that
host only, and to the token service that it names; a hub is told `HF_TOKEN` unasked, and no service is. What fails for
the moment (a connection, a 5xx, a 429) is tried again with growing pauses; what fails for good is a typed error.
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
from tutti.hub.credentials import Credential, find_credential, is_hub
from tutti.hub.names import ModelName
from tutti.settings import read_settings

T = TypeVar("T")

_CHALLENGE = re.compile(r'(?:(?P<scheme>\w+) +)?(?P<name>\w+)=(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\s,]*))')
_LOGIN = ": give it by docker login {}, or in TUTTI_REGISTRY_AUTH"
_HUB_LOGIN = (
    "; a model that is gated or private needs its terms accepted there, and HF_TOKEN set to a token of yours"
)
_OURS = " the password that is written down for it"
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
    """Connections to web servers, and who we are to each of them. Close it when done."""

    options: Options = field(default_factory=Options)
    _authorizations: dict[str, str] = field(default_factory=dict, repr=False)  # by host: the header's value
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
        """The answer, its body not read yet; redirects of GET and HEAD followed; who asks who we are is told.

        Raises Temporary, TransferError, Unauthorized. A status from 400 on is an answer like others, but 401, 403, 429
        and 5xx are raised.
        """
        told: set[str] = set()  # the hosts that asked who we are
        for _ in range(_MAX_REDIRECTS + 2):
            response = await self._send(method, url, headers or {}, content)
            try:
                if response.status_code == 401 and (host := urlsplit(url).netloc) not in told:
                    told.add(host)
                    await self._authorize(url, response.headers.get("WWW-Authenticate", ""))
                    continue
                location = response.headers.get("Location")
                if method in ("GET", "HEAD") and location and 300 <= response.status_code < 400:
                    url = self._redirected(url, location)
                    continue
                await _judge(response)
                yield response
                return
            except Unauthorized as error:
                if not is_hub(read_settings(), url):
                    raise
                raise Unauthorized(f"{error}{_HUB_LOGIN}") from error
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
        authorization = self._authorizations.get(urlsplit(url).netloc)
        if authorization is None and (token := read_settings().hf_token) and is_hub(read_settings(), url):
            authorization = f"Bearer {token}"
        sent = {**headers, **({"Authorization": authorization} if authorization else {})}
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
        """Become who a 401 asks for. Raises Unauthorized, Temporary, and ConfigError as `find_credential` does."""
        host = urlsplit(url).netloc
        asked = _challenges(challenge)
        credential = await find_credential(read_settings(), host)
        if "realm" in asked.get("bearer", {}):
            token = await self._token(url, asked["bearer"], credential)
            self._authorizations[host] = f"Bearer {token}"
        elif "basic" not in asked:
            raise Unauthorized(f"unauthorized: {host} wants credentials of a kind that Tutti does not have")
        elif credential is None or credential.identity:
            raise Unauthorized(f"unauthorized: {host} wants a password{_LOGIN.format(host)}")
        else:
            self._authorizations[host] = credential.basic

    async def _token(self, url: str, asked: Mapping[str, str], credential: Credential | None) -> str:
        """The token that the service of a challenge gives to `credential`, or to anybody."""
        assert self._http is not None
        host = urlsplit(url).netloc
        realm = urljoin(url, asked["realm"])
        service, plain = urlsplit(realm).netloc, urlsplit(realm).scheme != "https"
        if plain and (not self.options.insecure or (credential and urlsplit(url).scheme == "https")):
            raise Unauthorized(f"unauthorized: {host} wants to be asked for a token over plain http")
        query = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
        try:
            if credential is not None and credential.identity:
                form = {
                    "grant_type": "refresh_token",
                    "refresh_token": credential.secret,
                    "client_id": "tutti",
                }
                response = await self._http.post(realm, data=form | query, follow_redirects=False)
            else:
                headers = {} if credential is None else {"Authorization": credential.basic}
                response = await self._http.get(realm, params=query, headers=headers, follow_redirects=False)
        except httpx.InvalidURL as error:
            raise Unauthorized(f"unauthorized: {host} names a token service that is no address") from error
        except httpx.HTTPError as error:
            raise Temporary(f"{service}: {said(error)}") from error
        if response.status_code in (400, 401, 403):
            why = f"wants a password{_LOGIN.format(host)}" if credential is None else f"does not take{_OURS}"
            raise Unauthorized(f"unauthorized: {host} {why}")
        await _judge(response)
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, object])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Unauthorized(f"unauthorized: {service} gives no token") from error
        token = answer.get("token") or answer.get("access_token")
        if response.status_code != 200 or not isinstance(token, str) or not token.isprintable():
            raise Unauthorized(f"unauthorized: {service} gives no token")
        return token


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """What a `WWW-Authenticate` says, by the schemes in small letters."""
    found: dict[str, dict[str, str]] = {}
    scheme = header.strip().lower()
    if scheme.isalpha():  # a scheme that says nothing more
        return {scheme: {}}
    for match in _CHALLENGE.finditer(header):
        scheme = (match["scheme"] or scheme).lower()
        value = match["plain"] if match["quoted"] is None else match["quoted"]
        found.setdefault(scheme, {})[match["name"].lower()] = value
    return found


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
