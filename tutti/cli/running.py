"""`tutti ps` and `tutti stop`: the models that the running server holds in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer


def ps(
    prefix: Annotated[str, typer.Argument(help="Only models whose names begin so.", show_default=False)] = "",
) -> None:
    """List the models that are in memory."""
    import asyncio

    from tutti.cli.wording import table

    now = time.time()
    rows = [_row(model, now) for model in asyncio.run(_running()) if str(model["name"]).startswith(prefix)]
    print(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows))


def stop(model: Annotated[str, typer.Argument(show_default=False)]) -> None:
    """Have the server drop a model from memory."""
    import asyncio

    asyncio.run(_stop(model))


async def _running() -> list[Mapping[str, Any]]:
    from tutti.cli.client import Client

    async with Client.of() as client:
        return list((await client.get("/api/ps")).get("models") or ())


async def _stop(model: str) -> None:
    from tutti.cli.client import Client
    from tutti.cli.remote import unload
    from tutti.cli.session import spinner

    async with Client.of() as client:
        with spinner(f"stopping {model}"):
            await unload(client, model)


def _row(model: Mapping[str, Any], now: float) -> tuple[str, ...]:
    from tutti.cli.remote import moment
    from tutti.cli.wording import size_of, until

    size = int(model.get("size", 0))
    return (
        str(model["name"]),
        str(model.get("digest", "")).removeprefix("sha256:")[:12],
        size_of(size),
        processor(size, int(model.get("size_vram", 0))),
        str(model.get("context_length", 0)),
        until(moment(model["expires_at"]), now),
    )


def processor(size: int, on_gpu: int) -> str:
    """Where a model's `size` bytes are, `on_gpu` of them there: `100% CPU`, `48%/52% CPU/GPU`."""
    if on_gpu == 0:
        return "100% CPU"
    if on_gpu == size:
        return "100% GPU"
    if on_gpu > size:
        return "Unknown"
    share = round((size - on_gpu) / size * 100)
    return f"{share}%/{100 - share}% CPU/GPU"
