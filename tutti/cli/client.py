"""A server that speaks Ollama's API, asked from a terminal: objects, and streams of them, over HTTP.

Owns the connection and the wording of what goes wrong with it; what is asked is its callers' business.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tutti.errors import NoServer, ServerError, ServerNotFound
from tutti.settings import Address, Settings, read_settings

if TYPE_CHECKING:
    import httpx

Object = dict[str, Any]

_CONNECT = 5.0  # seconds after which nobody is there


class Client:
    """Asks the server at `address`. Use it within one event loop, and close it."""

    def __init__(self, address: Address, api_key: str | None = None) -> None:
        import httpx

        self.address = address
        # Who asks this machine is sent through no proxy.
        self._http = httpx.AsyncClient(
            base_url=address.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT),
            trust_env=not address.is_here,
        )

    @classmethod
    def of(cls, settings: Settings | None = None) -> Client:
        """A client of the server that the settings name. Raises ConfigError."""
        settings = settings or read_settings()
        return cls(settings.server_address, settings.api_key)

    async def version(self) -> str | None:
        """The server's version; None where nobody answers as Ollama's API does."""
        import httpx

        try:
            response = await self._http.get("/api/version", timeout=_CONNECT)
            found = response.json()["version"] if response.status_code == HTTPStatus.OK else None
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    async def get(self, path: str) -> Object:
        """The object at `path`. Raises ServerError, ServerNotFound, NoServer."""
        return await self._object("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Object:
        """What `path` answers to `body`, in one piece. Raises ServerError, ServerNotFound, NoServer."""
        return await self._object("POST", path, body)

    async def lines(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Object, None]:
        """The objects that `path` answers to `body`, as they come. Closing it closes the connection.

        Raises ServerError, ServerNotFound, NoServer.
        """
        import httpx

        try:
            async with self._http.stream("POST", path, json=body) as response:
                if response.status_code >= HTTPStatus.BAD_REQUEST:
                    raise _refusal(response.status_code, await response.aread(), status_first=True)
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        yield line
        except httpx.TransportError as error:
            raise self._broken(error) from error

    async def _object(self, method: str, path: str, body: Mapping[str, Any] | None) -> Object:
        import httpx

        try:
            response = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise self._broken(error) from error
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise _refusal(response.status_code, response.content)
        return _decoded(response.content)

    def _broken(self, error: httpx.TransportError) -> NoServer | ServerError:
        """What a connection that failed, or that was cut, means."""
        import httpx

        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return NoServer("could not connect to a Tutti server, run 'tutti serve' to start it")
        said = str(error) or type(error).__name__
        return ServerError(f"the connection to the server at {self.address.url} broke: {said}")

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _lines(response: httpx.Response) -> AsyncGenerator[Object, None]:
    """The objects of a stream. One that is an error is raised."""
    async for line in response.aiter_lines():
        if line.strip():
            found = _decoded(line)
            if found.get("error"):
                raise ServerError(str(found["error"]))
            yield found


def _decoded(data: bytes | str) -> Object:
    try:
        found = json.loads(data) if data else {}
    except ValueError as error:
        raise ServerError(f"the server's answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ServerError("the server's answer is no JSON object")
    return found


def _refusal(status: int, data: bytes, *, status_first: bool = False) -> ServerError:
    """The error of a response that is one, in the server's words; `status_first`: behind the status, as in streams."""
    try:
        said = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        said = data.decode(errors="replace").strip()
    message = str(said.get("message", said) if isinstance(said, dict) else said)
    try:
        name = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        name = str(status)
    if not message:
        message = name
    elif status_first or status == HTTPStatus.UNAUTHORIZED:
        message = f"{name}: {message}"
    return (ServerNotFound if status == HTTPStatus.NOT_FOUND else ServerError)(message)
