"""`tutti quantize SRC DST --type q4_K_M`: a model as a GGUF file in fewer bits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutti.settings import format_size

if TYPE_CHECKING:
    from tutti.formats.gguf.convert import Step


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A GGUF file, a directory, or a Hugging Face id.", show_default=False
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The GGUF file to write.", show_default=False)
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            "-t",
            metavar="TYPE",
            help="q4_K_M, q4_K_S, q5_K_M, q5_K_S, q6_K, q8_0, q4_0, q4_1, q5_0, q5_1, f16, bf16 or f32.",
        ),
    ] = "q4_K_M",
) -> None:
    """Write a model as a GGUF file, quantized; llama.cpp and Ollama read it, too."""
    from tutti.formats.gguf.mixes import find_mix
    from tutti.hub import resolve_model

    mix = find_mix(kind)
    path = Path(source) if Path(source).is_file() else resolve_model(source)
    from tutti.formats.gguf.convert import convert  # torch takes a second, a wrong name should not

    with _progress() as progress:
        summary = convert(path, target, mix, progress)
    print(
        f"{target}: {mix.name}, {summary.tensors} tensors, {format_size(summary.nbytes)}, "
        f"{summary.bits:.2f} bits a weight"
    )


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """One line on standard error, if that is a terminal: how far it is, and the tensor in hand."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(30), DownloadColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)

        def show(step: Step) -> None:
            text = f"{step.number}/{step.tensors} {step.name} {step.kind.name}"
            shown.update(task, description=text, completed=step.written, total=step.nbytes)

        yield show
