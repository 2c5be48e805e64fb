"""`tutti list`, `cp`, `rm` and `create`: the models of the store, without a server."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tutti.errors import ConfigError


def list_models(
    prefix: Annotated[str, typer.Argument(help="Only models whose names begin so.", show_default=False)] = "",
) -> None:
    """List the models of the store."""
    print(listed(prefix))


def listed(prefix: str = "") -> str:
    """The table of the store's models whose names begin with `prefix`."""
    from tutti.cli.wording import ago, size_of, table
    from tutti.hub.store import open_store

    now = time.time()
    rows = [
        (
            str(entry.name),
            entry.manifest.digest[:12],
            size_of(entry.manifest.size),
            ago(entry.modified, now),
        )
        for entry in open_store().entries()
        if str(entry.name).lower().startswith(prefix.lower())
    ]
    return table(("NAME", "ID", "SIZE", "MODIFIED"), rows)


def copy(
    source: Annotated[str, typer.Argument(show_default=False)],
    destination: Annotated[str, typer.Argument(show_default=False)],
) -> None:
    """Give a model of the store a second name."""
    from tutti.hub.store import open_store

    open_store().copy(source, destination)
    print(f"copied '{source}' to '{destination}'")


def remove(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
) -> None:
    """Remove models from the store, and the files that only they had."""
    from tutti.hub.store import open_store

    store = open_store()
    for model in models:
        store.delete(model)
        print(f"deleted '{model}'")


def create(
    model: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="The Modelfile (default: Modelfile); -: what is piped in."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize",
            "-q",
            metavar="TYPE",
            help="Keep it in fewer bits: q4_K_M, q8_0, ... (see quantize).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a model of a Modelfile."""
    from tutti.cli.transfers import follow
    from tutti.formats.gguf.header import describe
    from tutti.formats.gguf.quantizing import quantizer
    from tutti.hub.create import create
    from tutti.hub.modelfile import read_modelfile
    from tutti.hub.store import open_store

    if file == "-":
        data, folder = sys.stdin.buffer.read(), Path()
    else:
        path = Path(file or "Modelfile").expanduser()
        if not path.is_file():
            missing = (
                "specified Modelfile wasn't found" if file else "there is no Modelfile here; -f names one"
            )
            raise ConfigError(missing)
        data, folder = path.read_bytes(), path.parent
    smaller = None if quantize is None else quantizer(quantize)
    modelfile = read_modelfile(data)
    follow(create(open_store(), model, modelfile, describe, folder=folder, quantizer=smaller))
