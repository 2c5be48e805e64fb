"""`tutti pull` and `tutti push`: models from and to registries, web addresses and files, with bars."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from tutti.hub.progress import Progress
    from tutti.hub.registry import Options
    from tutti.hub.store import Store

Insecure = Annotated[
    bool, typer.Option("--insecure", help="Allow http:// and certificates that nobody signed.")
]


def pull(
    model: Annotated[
        str,
        typer.Argument(
            help="A name (llama3.2, hf.co/user/repo:Q4_K_M, host/namespace/model:tag), the address of a .gguf "
            "file, or such a file.",
            show_default=False,
        ),
    ],
    insecure: Insecure = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="What to call a model that comes as a file.", show_default=False
        ),
    ] = None,
) -> None:
    """Get a model into the store."""
    from tutti.hub.registry import Options
    from tutti.hub.store import open_store

    follow(_pull(open_store(), model, name, Options(insecure=insecure)))


def push(
    model: Annotated[str, typer.Argument(help="host/namespace/model:tag", show_default=False)],
    insecure: Insecure = False,
) -> None:
    """Send a model of the store to the registry that its name says."""
    from tutti.hub.push import push
    from tutti.hub.registry import Options
    from tutti.hub.store import open_store

    follow(push(open_store(), model, Options(insecure=insecure)))


def follow(work: AsyncGenerator[Progress, None]) -> None:
    """Do `work` and show how it goes. Ctrl+C ends it in order: what has come is kept."""
    import asyncio

    from tutti.cli.bars import Bars

    async def all_of_it() -> None:
        with Bars() as bars:
            async with aclosing(work):
                async for progress in work:
                    bars.show(progress)

    asyncio.run(all_of_it())


def _pull(store: Store, model: str, name: str | None, options: Options) -> AsyncGenerator[Progress, None]:
    """What pulls `model`, whatever it is."""
    from tutti.errors import ConfigError
    from tutti.formats.gguf.header import describe
    from tutti.hub.create import create, pull_gguf
    from tutti.hub.modelfile import Command, Modelfile
    from tutti.hub.names import name_for_file, parse_name
    from tutti.hub.pull import pull

    path = urlsplit(model).path
    is_file = path.endswith(".gguf")
    if name is not None and not is_file:
        raise ConfigError(
            "--as names a model that comes as a .gguf file; give another one a name with tutti cp"
        )
    if not is_file:
        return pull(store, model, options)
    target = parse_name(name) if name is not None else name_for_file(path)
    if "://" in model:
        return pull_gguf(store, target, model, describe, options)
    return create(store, target, Modelfile((Command("from", model),)), describe, folder=Path())
