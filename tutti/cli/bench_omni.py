"""`tutti bench omni`: requests that are answered aloud, each to a simulated listener; for growing numbers of streams.

The model may be served already (`--base-url`), or is served here while it is measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.measure import Record, Spread
from tutti.cli.playback import Playback
from tutti.errors import ConfigError
from tutti.settings import EngineOptions, format_size, read_settings

if TYPE_CHECKING:
    from rich.table import Table

    from tutti.cli.speaking import StageLoad, Stages


@dataclass(frozen=True, slots=True)
class Level:
    """So many streams at once, and how it was for their listeners. Times in seconds.

    `rtf` is the mean, over the requests, of the time until the last sound over the sound's length; `rate` the seconds
    of sound made in a second, of all requests together.
    """

    streams: int
    requests: int
    failed: int
    error: str | None
    duration: float
    text: Spread
    sound: Spread
    rtf: float
    rate: float
    underruns: int
    silent: float
    broken: int  # streams with an underrun
    memory: int | None
    server_underruns: int | None
    stages: list[StageLoad]

    @classmethod
    def of(
        cls, streams: int, records: Sequence[Record], duration: float, stages: Stages, wait: float
    ) -> Level:
        """What `records` amount to; listeners have `wait` seconds of patience before they start to play."""
        good = [record for record in records if record.error is None and record.ended is not None]
        plays = [Playback.of(record.sounds, wait) for record in good]
        factors = [
            (record.sounds[-1][0] - record.sent) / record.sound_seconds
            for record in good
            if record.sound_seconds
        ]
        return cls(
            streams,
            len(records),
            len(records) - len(good),
            next((record.error for record in records if record.error), None),
            duration,
            Spread.of([record.ttft for record in good if record.ttft is not None]),
            Spread.of([record.first_sound for record in good if record.first_sound is not None]),
            sum(factors) / len(factors) if factors else math.nan,
            sum(record.sound_seconds for record in good) / duration,
            sum(play.underruns for play in plays),
            sum(play.silent for play in plays),
            sum(play.underruns > 0 for play in plays),
            stages.memory,
            stages.underruns,
            stages.loads,
        )


@with_engine_flags
def omni(
    engine: EngineFlags,
    model: Annotated[
        str | None,
        typer.Argument(help="A model to serve for this; or none, with --base-url.", show_default=False),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="A server that runs already.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--model", help="Which of its models (default: the first).")
    ] = None,
    streams: Annotated[str, typer.Option(help="Streams at once: 1,2,4,8,16.")] = "1,2,4,8",
    rounds: Annotated[int, typer.Option(min=1, help="Requests of each stream, one after the other.")] = 2,
    request_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Instead: so many requests a second.", show_default=False)
    ] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Requests in all, with --request-rate.")] = 32,
    input_len: Annotated[int, typer.Option(min=1, help="Words of a text.")] = 16,
    output_len: Annotated[int, typer.Option(min=1, help="Tokens of an answer's text, at most.")] = 64,
    speech: Annotated[
        bool, typer.Option("--speech", help="Have texts read aloud: /v1/audio/speech.")
    ] = False,
    voice: Annotated[str | None, typer.Option(help="Who speaks.", show_default=False)] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture for every request; may be repeated.")
    ] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="The same with recordings.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="The same with videos.")] = None,
    prebuffer: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the first sound until a player starts.")
    ] = 0.1,
    extra_body: Annotated[
        str | None,
        typer.Option(help="JSON for every request, for instance its stage_sampling.", metavar="JSON"),
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    output_json: Annotated[Path | None, typer.Option(help="Write them to this file.")] = None,
) -> None:
    """Speech: times to the first text and sound, and how many listeners a machine can serve without a silence."""
    import asyncio

    from tutti.cli.speaking import media_part

    if (model is None) == (base_url is None):
        raise ConfigError("which model? tutti bench omni MODEL, or --base-url URL of a server that runs")
    media = [("image", image), ("audio", audio), ("video", video)]
    plan = _Plan(
        streams=_counts(streams) if request_rate is None else (num_prompts,),
        rounds=rounds if request_rate is None else 1,
        rate=math.inf if request_rate is None else request_rate,
        input_len=input_len,
        output_len=output_len,
        prebuffer=prebuffer,
    )
    sending = {
        "reading": speech,
        "voice": voice,
        "media": tuple(media_part(path, kind) for kind, paths in media for path in paths or ()),
        "body": _object(extra_body),
    }
    options = None if model is None else engine.options(model)
    key = api_key or read_settings().api_key
    served, levels = asyncio.run(_measure(options, base_url, key, name, plan, sending, quiet=as_json))
    found = {
        "benchmark": "omni",
        "model": served,
        "player_clock": engine.player_clock if base_url is None else None,
        **asdict(plan),
        "rate": None if math.isinf(plan.rate) else plan.rate,
        "levels": [_numbers(level) for level in levels],
    }
    text = json.dumps(found, indent=2)
    if output_json is not None:
        output_json.write_text(text + "\n")
    if as_json:
        print(text)
    else:
        _show(served, levels, plan)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is sent."""

    streams: tuple[int, ...]
    rounds: int
    rate: float  # requests a second; inf: as many at once as there are streams
    input_len: int
    output_len: int
    prebuffer: float


async def _measure(
    options: EngineOptions | None,
    url: str | None,
    key: str | None,
    name: str | None,
    plan: _Plan,
    sending: dict[str, Any],
    *,
    quiet: bool,
) -> tuple[str, list[Level]]:
    """The model's name and every level, after one request to warm up. Raises TuttiError when all of one fail."""
    from tutti.cli.load import drive, first_model, open_server, raise_if_all_failed, random_jobs
    from tutti.cli.session import spinner
    from tutti.cli.speaking import SpeakingSender, watch_stages

    levels: list[Level] = []
    async with _server(options, url) as address, open_server(address, key) as client:
        served = name or await first_model(client)
        sender = SpeakingSender(client, served, **sending)
        warm, _ = await drive(random_jobs(1, pool=None, prompt=plan.input_len, output=8, seed=-1), sender)
        raise_if_all_failed(warm)
        for streams in plan.streams:
            jobs = random_jobs(
                streams * plan.rounds,
                pool=None,
                prompt=plan.input_len,
                output=plan.output_len,
                seed=streams,
            )
            limit = streams if math.isinf(plan.rate) else None
            with spinner(f"{len(jobs)} requests" + (f", {limit} at once" if limit else "")):
                async with watch_stages(client, served) as stages:
                    records, duration = await drive(jobs, sender, rate=plan.rate, concurrency=limit)
            raise_if_all_failed(records)
            levels.append(Level.of(streams, records, duration, stages, plan.prebuffer))
    return served, levels


@asynccontextmanager
async def _server(options: EngineOptions | None, url: str | None) -> AsyncIterator[str]:
    """The address of the server that is there, or of one that serves `options` here."""
    import asyncio

    if options is None:
        assert url is not None
        yield url
        return
    from tutti.api.app import create_app
    from tutti.api.server import bind, make_server
    from tutti.cli.local import open_llm
    from tutti.cli.session import spinner
    from tutti.gateway.gateway import Gateway
    from tutti.gateway.limits import Limits

    with spinner(f"loading {options.served_model_name[0]}"):
        llm = await open_llm(options, in_process=False)
    async with llm:
        gateway = Gateway([llm.backend], limits=Limits(options.max_num_seqs, options.max_queue))
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = make_server(create_app(gateway), drain=1, ready=ready.set_result)
        serving = asyncio.ensure_future(server.serve([bind("127.0.0.1", 0)]))
        try:
            yield await ready
        finally:
            server.should_exit = True
            await serving


def _counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--streams {text!r}: write numbers, for instance 1,2,4,8", param="streams"
        ) from error
    if min(found) < 1:
        raise ConfigError(f"--streams {text!r}: at least one stream", param="streams")
    return found


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"--extra-body is not JSON: {error}", param="extra_body") from error
    if not isinstance(found, dict):
        raise ConfigError("--extra-body must be a JSON object", param="extra_body")
    return found


def _numbers(level: Level) -> dict[str, Any]:
    """A level for a file: times in milliseconds as elsewhere, what was not measured null."""
    found = asdict(level)
    for name in ("text", "sound"):
        spread: Spread = getattr(level, name)
        found[name] = None if math.isnan(spread.mean) else asdict(spread)
    found["rtf"] = None if math.isnan(level.rtf) else level.rtf
    return found


def _show(name: str, levels: Sequence[Level], plan: _Plan) -> None:
    """The tables for people."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{name}: players start {plan.prebuffer * 1000:.0f} ms after the first sound\n")
    console.print(_listeners(levels, rate=not math.isinf(plan.rate)))
    last = levels[-1]
    if last.stages:
        console.print(f"\nStages, with {last.streams} streams:\n")
        console.print(_stages(last.stages))
    if last.memory:
        console.print(f"\nPeak memory of the engine's processes: {format_size(last.memory)}")
    for level in levels:
        if level.failed:
            console.print(f"{level.failed} of {level.requests} failed, the first: {level.error}")


def _listeners(levels: Sequence[Level], *, rate: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    titles = (
        "requests" if rate else "streams",
        "text ms",
        "sound ms",
        "RTF",
        "sound/s",
        "underruns",
        "silent s",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("had one", no_wrap=True)
    for level in levels:
        share = level.broken / max(level.requests - level.failed, 1)
        table.add_row(
            str(level.streams),
            _ms(level.text.percentiles[0]),
            _ms(level.sound.percentiles[0]),
            f"{level.rtf:.2f}",
            f"{level.rate:.2f}",
            str(level.underruns),
            f"{level.silent:.2f}",
            f"{share:4.0%} {'█' * round(share * 8)}",
        )
    return table


def _stages(stages: Sequence[StageLoad]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage")
    for title in ("steps", "mean batch", "ms a step", "busy", "queue"):
        table.add_column(title, justify="right")
    for stage in stages:
        table.add_row(
            stage.name,
            str(stage.steps),
            f"{stage.batch:.1f}",
            f"{stage.step_ms:.1f}",
            f"{stage.busy:.0%}",
            f"{stage.queue:.1f}",
        )
    return table


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"
