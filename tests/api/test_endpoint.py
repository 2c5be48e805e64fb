"""One HTTP call: limits, keys, errors, and clients that leave. A real server, with handlers of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.api.serving import until_async
from tutti.api.endpoint import Call, Endpoint, Handler
from tutti.api.errors import internal_error, routing_error
from tutti.api.server import listen, make_server
from tutti.api.stream import DONE, EventStream, sse
from tutti.errors import Busy, InvalidRequest, StageFailed
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import ApiKeys


@asynccontextmanager
async def served(handler: Handler, *, keys: tuple[str, ...] = (), max_body: int = 1000) -> AsyncIterator[str]:
    """The address of a server that answers POST / by `handler`."""
    endpoint = Endpoint(Gateway([], ApiKeys(keys)), handler, max_body=max_body)
    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])],
        exception_handlers={HTTPException: routing_error, Exception: internal_error},
    )
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = make_server(app, drain=1, ready=address.set_result)
    running = asyncio.create_task(server.serve([listen("127.0.0.1", 0)]))
    try:
        yield await address
    finally:
        server.should_exit = True
        await running


class Slow:
    """A handler that never answers, and tells whether it was stopped."""

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream
        self.begun = False
        self.stopped = False

    async def __call__(self, call: Call) -> ASGIApp:
        if self.stream:
            return await EventStream.open(self.events())
        await self.wait()
        raise AssertionError("unreachable")

    async def events(self) -> AsyncGenerator[bytes, None]:
        yield sse({"first": True})
        await self.wait()

    async def wait(self) -> None:
        self.begun = True
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # cleaning up may take its time
            self.stopped = True


async def echo(call: Call) -> ASGIApp:
    return PlainTextResponse(call.body)


async def test_a_body_is_read_up_to_the_limit() -> None:
    async with served(echo) as url, httpx.AsyncClient() as client:
        assert (await client.post(url, content=b"x" * 1000)).content == b"x" * 1000
        response = await client.post(url, content=b"x" * 1001)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "payload_too_large"
        assert "1 kB" in response.json()["error"]["message"]


async def test_a_body_that_does_not_say_its_size_is_limited_too() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    async with served(echo) as url, httpx.AsyncClient() as client:
        assert (await client.post(url, content=chunks())).status_code == 413


async def test_the_key_is_asked_for_before_the_body_is_read() -> None:
    async with served(echo, keys=("secret",)) as url, httpx.AsyncClient() as client:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            response = await client.post(url, content=b"x" * 2000, headers=header)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
        assert (await client.post(url, headers={"Authorization": "bearer secret"})).status_code == 200


async def test_errors_become_openais_object_with_their_status() -> None:
    async def refuse(call: Call) -> ASGIApp:
        raise InvalidRequest("Wrong.", param="messages[0]")

    async def busy(call: Call) -> ASGIApp:
        raise Busy("Later.", retry_after=2.3)

    async with served(refuse) as url, httpx.AsyncClient() as client:
        response = await client.post(url)
        assert response.status_code == 400
        assert response.json() == {
            "error": {
                "message": "Wrong.",
                "type": "invalid_request_error",
                "param": "messages[0]",
                "code": "invalid_request",
            }
        }
        missing = await client.post(f"{url}/nowhere")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        wrong = await client.get(url)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "POST"
    async with served(busy) as url, httpx.AsyncClient() as client:
        response = await client.post(url)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "3"


async def test_a_fault_of_ours_is_a_500_without_its_details() -> None:
    async def broken(call: Call) -> ASGIApp:
        raise KeyError("a secret of the house")

    async with served(broken) as url, httpx.AsyncClient() as client:
        response = await client.post(url)
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.json()["error"]["type"] == "server_error"


async def test_a_stream_is_events_and_an_error_in_it_is_its_last() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield sse({"n": 1})
        yield sse({"n": 2})
        raise StageFailed("It broke.", stage="llm")

    async def handler(call: Call) -> ASGIApp:
        return await EventStream.open(events())

    async with served(handler) as url, httpx.AsyncClient() as client:
        response = await client.post(url)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, last, rest = response.text.split("\n\n")
    assert rest == ""
    assert f"{last}\n\n".encode() == DONE
    assert [json.loads(line.removeprefix("data: ")) for line in lines[:-1]] == [{"n": 1}, {"n": 2}]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["message"] == "It broke. (stage: llm)"


async def test_an_error_before_the_first_event_has_its_status() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        raise InvalidRequest("No.")
        yield b""

    async def handler(call: Call) -> ASGIApp:
        return await EventStream.open(events())

    async with served(handler) as url, httpx.AsyncClient() as client:
        assert (await client.post(url)).status_code == 400


async def test_a_client_that_leaves_a_stream_stops_it() -> None:
    slow = Slow(stream=True)
    async with served(slow) as url, httpx.AsyncClient() as client:
        async with client.stream("POST", url) as response:
            async for _ in response.aiter_lines():
                break
        await until_async(lambda: slow.stopped)


async def test_a_client_that_leaves_before_the_answer_stops_the_work() -> None:
    slow = Slow(stream=False)
    async with served(slow) as url, httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.post(url))
        await until_async(lambda: slow.begun)
        asking.cancel()
        await until_async(lambda: slow.stopped)


async def test_a_server_that_stops_ends_what_is_under_way() -> None:
    slow = Slow(stream=False)
    async with httpx.AsyncClient() as client:
        async with served(slow) as url:
            asking = asyncio.create_task(client.post(url))
            await until_async(lambda: slow.begun)
        assert slow.stopped
        await asyncio.gather(asking, return_exceptions=True)
