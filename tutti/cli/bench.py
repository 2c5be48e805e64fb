"""`tutti bench latency|throughput|serve`: a live table while it runs, then the numbers, and a JSON file if wanted.

`latency` and `throughput` measure the engine inside this process; `serve` measures any OpenAI server over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.measure import PERCENTILES, Record, Summary
from tutti.settings import EngineOptions, read_settings

if TYPE_CHECKING:
    from rich.table import Table

    from tutti.cli.load import Job

app = typer.Typer(help="Measure latency and throughput.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure latency and throughput."""
    if context.invoked_subcommand is None:
        print(context.get_help())


Model = Annotated[str, typer.Argument(help="pico, a directory, or a Hugging Face id.", show_default=False)]
InputLen = Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")]
OutputLen = Annotated[int, typer.Option(min=1, help="Tokens of an answer.")]
OutputJson = Annotated[Path | None, typer.Option(help="Write the numbers to this file.", show_default=False)]

_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2E"}


@app.command()
@with_engine_flags
def latency(
    engine: EngineFlags,
    model: Model,
    input_len: InputLen = 32,
    output_len: OutputLen = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    num_iters: Annotated[int, typer.Option(min=1, help="How often it is measured.")] = 5,
    num_iters_warmup: Annotated[int, typer.Option(min=0, help="Times before, not measured.")] = 1,
    output_json: OutputJson = None,
) -> None:
    """One batch of requests at a time, in this process: how long it takes."""
    shape = {
        "input_len": input_len,
        "output_len": output_len,
        "batch_size": batch_size,
        "num_iters": num_iters,
    }
    records, durations = asyncio.run(
        _in_process(
            engine.options(model),
            batch_size,
            input_len,
            output_len,
            repeats=num_iters,
            warmup=num_iters_warmup,
        )
    )
    summary = Summary.of(records, sum(durations))
    _print_summary(summary, f"{model}: {num_iters} batches of {batch_size}, {input_len} in, {output_len} out")
    print(f"Seconds per batch: mean {sum(durations) / num_iters:.3f}, best {min(durations):.3f}")
    _write(output_json, "latency", model, shape, summary, {"latencies": durations})


@app.command()
@with_engine_flags
def throughput(
    engine: EngineFlags,
    model: Model,
    input_len: InputLen = 128,
    output_len: OutputLen = 128,
    num_prompts: Annotated[int, typer.Option(min=1, help="Requests in all, sent at once.")] = 64,
    prefix_len: Annotated[int, typer.Option(min=0, help="Tokens that all prompts begin with.")] = 0,
    output_json: OutputJson = None,
) -> None:
    """Many requests at once, in this process: how many tokens per second."""
    shape = {
        "input_len": input_len,
        "output_len": output_len,
        "num_prompts": num_prompts,
        "prefix_len": prefix_len,
    }
    records, (duration,) = asyncio.run(
        _in_process(engine.options(model), num_prompts, input_len, output_len, shared=prefix_len)
    )
    summary = Summary.of(records, duration)
    _print_summary(
        summary, f"{model}: {num_prompts} requests at once, {prefix_len + input_len} in, {output_len} out"
    )
    _write(output_json, "throughput", model, shape, summary, {})


@app.command()
def serve(
    base_url: Annotated[
        str | None, typer.Option(help="The server (default: this machine's).", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Its host, instead of --base-url.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Its port, instead of --base-url.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Default: the first it serves.", show_default=False)
    ] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 64,
    request_rate: Annotated[
        float, typer.Option(min=0.001, help="Requests per second; inf: all at once.")
    ] = math.inf,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, help="Most in flight.", show_default=False)
    ] = None,
    random_input_len: InputLen = 128,
    random_output_len: OutputLen = 128,
    random_prefix_len: Annotated[int, typer.Option(min=0, help="Tokens that all prompts begin with.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Ask /v1/chat/completions, in words.")] = False,
    ignore_eos: Annotated[bool, typer.Option(help="Ask for answers of full length (vLLM and Tutti).")] = True,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    api_key: Annotated[str | None, typer.Option(help="The server's key.", show_default=False)] = None,
    output_json: OutputJson = None,
) -> None:
    """Load on any OpenAI server, over HTTP."""
    settings = read_settings()
    url = base_url or f"http://{host or settings.host}:{port or settings.port}"
    shape = {
        "num_prompts": num_prompts,
        "request_rate": request_rate if math.isfinite(request_rate) else "inf",
        "max_concurrency": max_concurrency,
        "random_input_len": random_input_len,
        "random_output_len": random_output_len,
        "random_prefix_len": random_prefix_len,
    }

    async def measure() -> tuple[str, list[Record], float]:
        from tutti.cli.load import HttpSender, drive, first_model, open_server, random_jobs, token_pool

        async with open_server(url, api_key or settings.api_key) as client:
            name = model or await first_model(client)
            pool = None if chat else await token_pool(client, name)
            jobs = random_jobs(
                num_prompts,
                pool=pool,
                prompt=random_input_len,
                output=random_output_len,
                shared=random_prefix_len,
                seed=seed,
            )
            sender = HttpSender(client, name, chat, ignore_eos)
            with _live(f"{name} at {url}") as watch:
                records, duration = await drive(
                    jobs, sender, rate=request_rate, concurrency=max_concurrency, seed=seed, watch=watch
                )
            return name, records, duration

    from tutti.cli.load import raise_if_all_failed

    name, records, duration = asyncio.run(measure())
    raise_if_all_failed(records)
    summary = Summary.of(records, duration)
    _print_summary(summary, f"{name} at {url}: {num_prompts} requests")
    failed = next((record.error for record in records if record.error), None)
    if failed:
        print(f"{summary.failed} failed; the first: {failed}")
    _write(output_json, "serve", name, shape, summary, {"base_url": url})


async def _in_process(
    options: EngineOptions,
    count: int,
    prompt: int,
    output: int,
    *,
    shared: int = 0,
    repeats: int = 1,
    warmup: int = 1,
) -> tuple[list[Record], list[float]]:
    """Send `count` requests at once, `repeats` times with other prompts each; the records and seconds of each time."""
    from tutti.cli.load import EngineSender, drive, raise_if_all_failed, random_jobs
    from tutti.cli.session import spinner
    from tutti.engine.local import LocalEngine

    name = options.served_model_name[0]
    engine = LocalEngine(options)
    try:
        with spinner(f"loading {name}"):
            info = await engine.ready()
        records: list[Record] = []
        durations: list[float] = []
        with _live(name) as watch:
            for turn in range(-warmup, repeats):
                # What warms up is short: it must leave nothing of the prompts in the prefix cache.
                jobs: list[Job] = random_jobs(
                    count if turn >= 0 else min(count, 4),
                    pool=range(info.vocab_size),
                    prompt=prompt,
                    output=output if turn >= 0 else min(output, 8),
                    shared=shared,
                    seed=options.seed + turn,
                )
                done, duration = await drive(
                    jobs, EngineSender(engine), watch=watch if turn >= 0 else _unseen
                )
                raise_if_all_failed(done)
                if turn >= 0:
                    records += done
                    durations.append(duration)
        return records, durations
    finally:
        await engine.close()


def _unseen(records: Sequence[Record]) -> None:
    """What warms up is not shown."""


@contextmanager
def _live(title: str) -> Iterator[Any]:
    """A table that follows the records while a benchmark runs; it leaves no trace, and is absent off a terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        yield _unseen
        return
    start = time.perf_counter()
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def watch(records: Sequence[Record]) -> None:
            first = min((record.sent for record in records if record.sent), default=start)
            summary = Summary.of(records, time.perf_counter() - first)
            running = sum(
                bool(record.sent) and record.ended is None and not record.error for record in records
            )
            generated = sum(record.output_tokens for record in records)
            rate = generated / summary.duration if summary.duration else 0.0
            state = f"{summary.completed}/{len(records)} done, {running} running, {rate:,.0f} tokens/s"
            live.update(_table(summary, f"{title}: {state}"), refresh=True)

        yield watch


def _table(summary: Summary, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("ms")
    for column in ("mean", *(f"p{percent}" for percent in PERCENTILES)):
        table.add_column(column, justify="right")
    for name, spread in summary.spreads.items():
        values = (spread.mean, *spread.percentiles)
        table.add_row(_NAMES[name], *("-" if math.isnan(value) else f"{value:,.2f}" for value in values))
    return table


def _print_summary(summary: Summary, title: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(summary, title))
    console.print(
        f"{summary.completed} requests in {summary.duration:.2f} s: {summary.request_throughput:.2f} requests/s, "
        f"{summary.output_throughput:,.1f} output tokens/s, {summary.total_throughput:,.1f} tokens/s in all"
    )


def _write(
    path: Path | None, kind: str, model: str, shape: dict[str, Any], summary: Summary, more: dict[str, Any]
) -> None:
    """The numbers as a JSON file, with what is needed to repeat them."""
    if path is None:
        return
    import tutti
    from tutti.cli.machine import read_cpu

    cpu = read_cpu()
    found = {
        "benchmark": kind,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tutti": tutti.__version__,
        "cpu": cpu.model,
        "cores": cpu.usable,
        "model": model,
        **shape,
        **summary.as_json(),
        **more,
    }
    path.write_text(json.dumps(found, indent=2) + "\n")
