"""Work apart from the server's event loop: on a loop of its own, in a thread of its own.

A pull hashes gigabytes, waits for locks and runs sixteen connections at once: nobody who reads an answer meanwhile
should notice. The work is an asynchronous generator, written as if it were alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """What `work` yields. It goes on between two values, as far as it has tasks that do.

    Raises what `work` raises. Closing this closes `work` and waits for it to clean up.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run, args=(loop,), name="apart", daemon=True).start()
    turn = asyncio.Lock()  # used on `loop` only: nothing is closed while it is still being unwound
    end = object()

    async def step() -> T | object:
        async with turn:
            return await anext(work, end)

    async def close() -> None:
        async with turn:
            await work.aclose()

    def there(one: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(one, loop))

    try:
        while (value := await there(step())) is not end:
            yield value
    finally:
        try:
            await there(close())
        finally:
            loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
