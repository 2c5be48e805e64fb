"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest

from tutti.gateway.merge import merge


class Sources:
    """Streams that count how many of them are open."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0

    def make(self, *items: int | Exception) -> Callable[[], AsyncGenerator[int, None]]:
        async def stream() -> AsyncGenerator[int, None]:
            self.open += 1
            self.most = max(self.most, self.open)
            try:
                for item in items:
                    await asyncio.sleep(0)
                    if isinstance(item, Exception):
                        raise item
                    yield item
            finally:
                self.open -= 1

        return stream


async def test_everything_comes_out_once_in_the_order_of_its_source() -> None:
    sources = Sources()
    streams = [sources.make(*range(k, k + 10)) for k in range(7)]
    found: dict[int, list[int]] = {}
    async for source, item in merge(streams, 3):
        found.setdefault(source, []).append(item)
    assert found == {k: list(range(k, k + 10)) for k in range(7)}
    assert sources.most == 3
    assert sources.open == 0


@pytest.mark.parametrize("count", [1, 4])
async def test_an_error_ends_all_of_them(count: int) -> None:
    sources = Sources()
    streams = [sources.make(1, ValueError("no")), *(sources.make(*range(1000)) for _ in range(count - 1))]
    with pytest.raises(ValueError, match="no"):
        async for _ in merge(streams, count):
            pass
    assert sources.open == 0


@pytest.mark.parametrize("count", [1, 5])
async def test_leaving_early_closes_all_of_them(count: int) -> None:
    sources = Sources()
    streams = [sources.make(*range(1000)) for _ in range(count)]
    async with aclosing(merge(streams, 3)) as merged:
        async for _ in merged:
            break
    assert sources.open == 0


async def test_cancelling_the_reader_closes_all_of_them() -> None:
    sources = Sources()
    reading = asyncio.Event()

    async def read() -> None:
        async with aclosing(merge([sources.make(*range(100_000)) for _ in range(3)], 3)) as merged:
            async for _ in merged:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sources.open == 0
