"""Several streams as one, in the order in which things happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merge(
    sources: Sequence[Callable[[], AsyncGenerator[T, None]]], window: int
) -> AsyncGenerator[tuple[int, T], None]:
    """(which source, item) of all sources, of which at most `window` run at a time.

    A source is opened when its turn comes. What a source raises is raised here and ends the others. Closing the
    iterator closes every source before it returns.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]()) as only:
            async for item in only:
                yield 0, item
        return
    items: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()
    turns = iter(enumerate(sources))

    async def pump() -> None:
        try:
            for index, source in turns:
                async with aclosing(source()) as stream:
                    async for item in stream:
                        items.put_nowait((index, item))
        except Exception as error:  # noqa: BLE001 - handed to the one who iterates
            items.put_nowait(error)
        else:
            items.put_nowait(None)

    pumps = [asyncio.create_task(pump()) for _ in range(min(window, len(sources)))]
    running = len(pumps)
    try:
        while running:
            found = await items.get()
            if found is None:
                running -= 1
            elif isinstance(found, Exception):
                raise found
            else:
                yield found
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
