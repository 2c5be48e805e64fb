"""Too many at once, and clients that leave: the surplus is told when to come back, nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from urllib.parse import urlsplit

import httpx

from tests.api.serving import Serving, serving, until
from tutti.gateway.limits import Limits

CONNECTIONS = 2000


def _request(url: str, body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one response."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, body


async def _storm(url: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Every connection is open before the first one asks."""
    host = urlsplit(url)
    links = await asyncio.gather(
        *(asyncio.open_connection(host.hostname, host.port) for _ in range(CONNECTIONS))
    )
    request = _request(url, {"prompt": "storm", "max_tokens": 8, "ignore_eos": True})
    for _, writer in links:
        writer.write(request)
    answers = await asyncio.gather(*(_answer(reader) for reader, _ in links))
    for _, writer in links:
        writer.close()
    return list(answers)


def test_of_2000_connections_the_queue_takes_256_and_the_surplus_is_told_when_to_return() -> None:
    with serving(limits=Limits(64, 192), max_num_seqs=64) as server:
        answers = asyncio.run(asyncio.wait_for(_storm(server.url), 100))
        counts = Counter(status for status, _, _ in answers)
        assert set(counts) == {200, 503}
        assert counts[200] >= 256
        for status, headers, body in answers:
            answer = json.loads(body)
            if status == 503:
                assert 1 <= int(headers["retry-after"]) <= 60
                assert answer["error"]["code"] == "server_busy"
                assert "256" in answer["error"]["message"]
            else:
                assert answer["usage"]["completion_tokens"] == 8
        server.everything_is_returned()
        with server.client() as client:  # and it serves on
            assert client.completions.create(model="tiny", prompt="calm", max_tokens=2).choices


def test_the_official_client_comes_back_by_itself() -> None:
    with serving(limits=Limits(1, 0), max_num_seqs=1) as server, server.client(max_retries=5) as client:
        stream = client.completions.create(
            model="tiny", prompt="first", max_tokens=300, stream=True, extra_body={"ignore_eos": True}
        )
        next(stream)
        assert client.completions.create(model="tiny", prompt="second", max_tokens=1).choices
        assert server.gateway.served[0].admission.refused >= 1
        assert list(stream)[-1].choices[0].finish_reason == "length"


def _running(server: Serving) -> int:
    stats = server.stats()
    return stats.running + stats.waiting


def test_a_client_that_leaves_mid_stream_returns_every_block(server: Serving) -> None:
    body = {"prompt": "leave me", "max_tokens": 4000, "ignore_eos": True, "stream": True, "n": 3}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert _running(server) == 3
    server.everything_is_returned()
    assert server.gateway.served[0].metrics.finished["abort"] >= 3


def test_a_client_that_leaves_before_its_answer_returns_every_block(server: Serving) -> None:
    async def leave() -> None:
        host = urlsplit(server.url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(_request(server.url, {"prompt": ["a", "b"], "max_tokens": 4000, "ignore_eos": True}))
        await writer.drain()
        await asyncio.to_thread(until, lambda: _running(server) == 2)
        writer.transport.abort()

    asyncio.run(leave())
    server.everything_is_returned()


def test_many_that_leave_at_any_time_return_every_block(server: Serving) -> None:
    async def leave(client: httpx.AsyncClient, after: int) -> None:
        body = {"prompt": "x" * after, "max_tokens": 2000, "ignore_eos": True, "stream": True}
        async with client.stream("POST", f"{server.url}/v1/completions", json=body) as response:
            count = 0
            async for _ in response.aiter_lines():
                count += 1
                if count >= after:
                    return

    async def all_of_them() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            await asyncio.gather(*(leave(client, 1 + k % 20) for k in range(60)))

    asyncio.run(all_of_them())
    server.everything_is_returned()


def test_a_client_that_does_not_read_holds_up_nobody(server: Serving) -> None:
    async def stall() -> None:
        host = urlsplit(server.url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.transport.pause_reading()
        writer.write(
            _request(server.url, {"prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": True})
        )
        await writer.drain()
        async with server.async_client() as client:
            answer = await client.completions.create(model="tiny", prompt="b", max_tokens=5)
        assert answer.choices
        writer.transport.abort()

    asyncio.run(stall())
    server.everything_is_returned()
