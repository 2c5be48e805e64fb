"""`tutti bench latency|throughput|serve|omni`: a live table while it runs, then the numbers, and a JSON file if wanted.

`latency` and `throughput` measure the engine inside this process; `serve` measures any OpenAI server over HTTP; `omni`
(`bench_omni`) has answers spoken.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutti.cli.bench_omni import omni
from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.measure import Record, Summary
from tutti.cli.report import live_table, print_summary, unseen, write_json
from tutti.settings import EngineOptions, read_settings

if TYPE_CHECKING:
    from tutti.cli.load import Job

app = typer.Typer(help="Measure latency and throughput.", rich_markup_mode=None)
app.command()(omni)


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure latency and throughput."""
    if context.invoked_subcommand is None:
        print(context.get_help())


Model = Annotated[str, typer.Argument(help="pico, a directory, or a Hugging Face id.", show_default=False)]
InputLen = Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")]
OutputLen = Annotated[int, typer.Option(min=1, help="Tokens of an answer.")]
OutputJson = Annotated[Path | None, typer.Option(help="Write the numbers to this file.", show_default=False)]


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
    import asyncio

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
    print_summary(summary, f"{model}: {num_iters} batches of {batch_size}, {input_len} in, {output_len} out")
    print(f"Seconds per batch: mean {sum(durations) / num_iters:.3f}, best {min(durations):.3f}")
    write_json(output_json, "latency", model, shape, summary, {"latencies": durations})


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
    import asyncio

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
    print_summary(
        summary, f"{model}: {num_prompts} requests at once, {prefix_len + input_len} in, {output_len} out"
    )
    write_json(output_json, "throughput", model, shape, summary, {})


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
    import asyncio

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
            with live_table(f"{name} at {url}") as watch:
                records, duration = await drive(
                    jobs, sender, rate=request_rate, concurrency=max_concurrency, seed=seed, watch=watch
                )
            return name, records, duration

    from tutti.cli.load import raise_if_all_failed

    name, records, duration = asyncio.run(measure())
    raise_if_all_failed(records)
    summary = Summary.of(records, duration)
    print_summary(summary, f"{name} at {url}: {num_prompts} requests")
    failed = next((record.error for record in records if record.error), None)
    if failed:
        print(f"{summary.failed} failed; the first: {failed}")
    write_json(output_json, "serve", name, shape, summary, {"base_url": url})


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
        with live_table(name) as watch:
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
                done, duration = await drive(jobs, EngineSender(engine), watch=watch if turn >= 0 else unseen)
                raise_if_all_failed(done)
                if turn >= 0:
                    records += done
                    durations.append(duration)
        return records, durations
    finally:
        await engine.close()
