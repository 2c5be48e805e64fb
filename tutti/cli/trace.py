"""`tutti trace REQUEST`: one request's passage through the stages, drawn in the terminal or into an SVG file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutti.cli.timeline import Row, Timeline, duration, label
from tutti.errors import ConfigError, InvalidRequest, NotFound
from tutti.settings import read_settings

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from tutti.trace import Trace

_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLOURS = {"reading": "yellow", "prefill": "magenta", "decode": "blue", "compute": "blue"}
_MOMENTS = {"first_text": ("▲", "green"), "first_sound": ("♪", "cyan"), "underrun": ("×", "bold red")}


def trace(
    request: Annotated[
        str | None,
        typer.Argument(help="chatcmpl-..., or the answer's x-request-id.", show_default=False),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The latest request.")] = False,
    url: Annotated[
        str | None, typer.Option(help="The server (default: this machine's).", show_default=False)
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw it into this file.", metavar="PICTURE.svg")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")] = False,
) -> None:
    """Show how a request went through the stages; without a name: which requests there were."""
    import asyncio

    import msgspec

    from tutti.trace import Trace

    if output is not None and output.suffix.lower() != ".svg":
        raise ConfigError(f"-o {output}: the name must end with .svg")
    settings = read_settings()
    address = url or f"http://{settings.host}:{settings.port}"
    found = asyncio.run(_ask(address, api_key or settings.api_key, request, last))
    if request is None and not last:
        _say_json(found) if as_json else _list(found)
        return
    traces = msgspec.convert(found, list[Trace])
    if output is not None:
        from tutti.cli.picture import draw

        output.write_text(draw([Timeline.of(one) for one in traces]))
        print(f"wrote {output}")
    elif as_json:
        _say_json(found)
    else:
        for one in traces:
            show(one)


async def _ask(url: str, key: str | None, name: str | None, last: bool) -> list[Any]:
    """What the server knows. Raises ConfigError, NotFound, InvalidRequest."""
    import httpx

    from tutti.cli.load import open_server

    async with open_server(url, key) as client:
        try:
            answer = await client.get("/v1/traces", timeout=30)
            if last and answer.status_code == 200:
                name = next((line["request"] for line in answer.json()["data"]), None)
                if name is None:
                    raise NotFound("the server has had no request yet")
            if name is not None:
                answer = await client.get(f"/v1/traces/{name}", timeout=30)
            body = answer.json()
        except httpx.ConnectError as error:
            raise ConfigError(f"no server answers at {url}; start one: tutti serve MODEL") from error
        except ValueError as error:
            raise InvalidRequest(f"{url} does not keep traces: is it a server of Tutti's?") from error
    if answer.status_code != 200:
        raise InvalidRequest(f"{url}: {body.get('error', {}).get('message', answer.status_code)}")
    data: list[Any] = body["data"]
    return data


def show(trace: Trace, console: Console | None = None) -> None:
    """Draw `trace` as wide as the terminal, and its numbers below."""
    from rich.console import Console

    console = console or Console(highlight=False)
    timeline = Timeline.of(trace)
    console.print(timeline.title, "", sep="\n")
    names = max((len(row.name) for row in timeline.rows), default=0) + 2
    width = max(console.width - names - 1, 20)
    for line in _picture(timeline, names, width):
        console.print(line, no_wrap=True, overflow="crop")
    console.print("", _numbers(timeline), "", sep="\n")


def _picture(timeline: Timeline, names: int, width: int) -> list[RenderableType]:
    """The axis, the rows, the moments."""
    from rich.text import Text

    def at(moment: float) -> int:
        return min(width - 1, int(moment / timeline.length * width))

    axis = [" "] * (names + width)
    for tick in timeline.ticks(max(width // 14, 2)):
        text = f"│{tick:g} s"
        place = names + at(tick)
        axis[place : place + len(text)] = text
    lines: list[RenderableType] = [Text("".join(axis[: names + width]), style="dim")]
    for row in timeline.rows:
        bar, batches = _cells(row, timeline.length, width)
        lines.append(Text(f"{row.name:<{names}}") + bar)
        if batches.plain.strip():
            lines.append(Text(f"{'  batch':<{names}}", style="dim") + batches)
    marks = Text(" " * names)
    column = 0
    for moment in timeline.moments:
        place = at(moment.at)
        if place < column:
            continue  # no room; the title counts them
        sign, style = _MOMENTS.get(moment.name, ("|", ""))
        text = f"{sign} {label(moment)}"
        place = max(column, min(place, width - len(text)))
        marks.append(" " * (place - column)).append(text, style=style)
        column = place + len(text) + 1
        marks.append(" ")
    lines.append(marks)
    return lines


def _cells(row: Row, length: float, width: int) -> tuple[Text, Text]:
    """The row's bars, as high as it computed in that time, and its batch sizes where they change."""
    from rich.text import Text

    cell = length / width
    busy, styles = [0.0] * width, [""] * width
    sizes: dict[int, int] = {}
    before = 1
    for bar in row.bars:
        first, last = int(bar.start / cell), int(bar.end / cell)
        for place in range(max(first, 0), min(last, width - 1) + 1):
            overlap = min(bar.end, (place + 1) * cell) - max(bar.start, place * cell)
            busy[place] += max(overlap, 0.0) / cell * bar.share
            styles[place] = _COLOURS[bar.phase]
        if (size := round(bar.batch)) != before:
            sizes.setdefault(min(first, width - 1), size)
            before = size
    waits = [range(int(start / cell), min(int(end / cell) + 1, width)) for start, end in row.waits]
    text = Text()
    for place, share in enumerate(busy):
        if share > 0:
            text.append(_BLOCKS[max(1, min(8, round(share * 8)))], style=styles[place])
        else:
            text.append("·" if any(place in wait for wait in waits) else " ", style="dim")
    batches = [" "] * width
    free = 0
    for place, size in sizes.items():
        if place >= free:
            batches[place : place + len(str(size))] = str(size)
            free = place + len(str(size)) + 1
    return text, Text("".join(batches[:width]), style="dim")


def _numbers(timeline: Timeline) -> Table:
    """What each stage took. `compute` is decoding, where there was a prefill; `busy` the share of it spent in steps."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("stage", no_wrap=True)
    for name in ("waited", "prefill", "compute", "busy", "steps", "batch", "made"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in timeline.rows:
        spent = {phase.name: phase.seconds for phase in row.phases}
        computing = [spent[name] for name in ("decode", "compute", "reading") if name in spent]
        whole = sum(seconds for name, seconds in spent.items() if name != "queue")
        busy = sum((bar.end - bar.start) * bar.share for bar in row.bars)
        steps = sum(bar.steps for bar in row.bars)
        batch = sum(bar.batch * bar.steps for bar in row.bars) / steps if steps else 0.0
        table.add_row(
            row.name,
            duration(spent.get("queue", 0.0)),
            duration(spent["prefill"]) if "prefill" in spent else "",
            duration(computing[0]) if computing else "",
            f"{min(busy / whole, 1):.0%}" if whole else "",
            str(steps),
            f"{batch:.1f}",
            f"{sum(bar.made for bar in row.bars)} {row.unit}" if row.unit else "",
        )
    return table


def _list(lines: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("request", no_wrap=True)
    table.add_column("model")
    table.add_column("took", justify="right")
    table.add_column("outcome")
    for line in lines:
        took = "" if line["seconds"] is None else duration(line["seconds"])
        table.add_row(line["request"], line["model"], took, line["outcome"])
    Console(highlight=False, soft_wrap=True).print(table)


def _say_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
