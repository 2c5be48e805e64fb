"""`tutti fit MODEL --memory 16GB`: whether a model fits, and where each byte goes. No weight is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tutti.cli.flags import EngineFlags, parse_tokens, with_engine_flags
from tutti.settings import format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tutti.engine.plan import MemoryPlan
    from tutti.settings import EngineOptions


@with_engine_flags
def fit(
    engine: EngineFlags,
    model: Annotated[
        str, typer.Argument(help="pico, a directory, a Hugging Face id, or a YAML file.", show_default=False)
    ],
    context: Annotated[
        int | None,
        typer.Option(
            parser=parse_tokens,
            metavar="TOKENS",
            help="Longest sequence wanted (as --max-model-len).",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests of that length at once.", show_default=False)
    ] = None,
) -> None:
    """Show whether a model fits in memory and where each byte goes; exit code 1 if it does not."""
    import msgspec

    from tutti.hub import outline_model
    from tutti.hub.composition import is_composition
    from tutti.llm.options import single_file

    if is_composition(model):
        _fit_composition(engine.options(model))
        return
    rest, files = single_file(model, engine.pipeline)
    with outline_model(rest) as path:
        if files:
            engine = replace(engine, pipeline=str(path))
        options = engine.options(model if files else str(path), (model,))
        if context is not None:
            options = msgspec.structs.replace(options, max_model_len=context)
        plan = _plan(options, concurrency)
    print_plan(plan, model)
    if not all(one.fits for one in (plan, *plan.beside)):
        raise typer.Exit(1)


def _fit_composition(options: EngineOptions) -> None:
    """The same for all parts of a graph by file together."""
    import asyncio

    from tutti.gateway.composed.opening import sketch

    shares = asyncio.run(sketch(options))
    for share in shares.shares:
        print(f"{share.name}: {share.plan}\n")
    print(shares.text())
    print("It fits." if shares.fits else "It does not fit.")
    if not shares.fits:
        raise typer.Exit(1)


def _plan(options: EngineOptions, concurrency: int | None) -> MemoryPlan:
    """The plan. With --memory the question is about a machine of that size, be it this one or not."""
    from tutti.engine.planning import choose_device, sketch_plan
    from tutti.formats.checkpoint import open_checkpoint
    from tutti.models.registry import find_graph

    checkpoint = open_checkpoint(options.model, options.components)
    graph = find_graph(checkpoint.config, checkpoint.path)
    device = choose_device(options.device)
    return sketch_plan(checkpoint, graph, options, device, available=options.memory, concurrency=concurrency)


def print_plan(plan: MemoryPlan, model: str) -> None:
    """The plan as a table, and the verdict."""
    from rich.console import Console

    console = Console(highlight=False)
    context = f", {plan.context:,} tokens of context" if plan.context else ""
    console.print(f"{model} on {plan.device} in {plan.dtype}{context}\n")
    console.print(_table(plan), soft_wrap=True)
    for one in plan.beside:
        console.print(f"\nbeside it on {one.device} in {one.dtype}\n")
        console.print(_table(one), soft_wrap=True)
    if plan.capacity:
        console.print(f"\n{plan.capacity}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for one in (plan, *plan.beside):
        if not one.fits:
            _refuse(console, one)
            return
    console.print(f"[green]It fits[/green], with {format_size(plan.budget - plan.total)} to spare.")


def _table(plan: MemoryPlan) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in plan.rows:
        table.add_row(row.name, format_size(row.bytes), row.note)
    table.add_row(
        "[bold]total", f"[bold]{format_size(plan.total)}", f"of a budget of {format_size(plan.budget)}"
    )
    return table


def _refuse(console: Console, plan: MemoryPlan) -> None:
    over = plan.total - plan.budget
    console.print(
        f"[red]It does not fit[/red]: {format_size(over)} too much."
        if over > 0
        else "[red]It does not fit[/red]: this machine has less than the budget."
    )
