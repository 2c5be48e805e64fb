"""`tutti run MODEL [PROMPT]`: one answer, or a conversation.

A prompt after the model's name, or text piped in, is answered once; a terminal with neither opens the conversation of
`repl`. The model runs inside this process.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tutti.cli.draw import Sheet, check_output, draw
from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.speech import check
from tutti.errors import InvalidRequest
from tutti.settings import EngineOptions, read_settings

if TYPE_CHECKING:
    from tutti.cli.manner import Manner


class RunCommand(TyperCommand):
    """`--think` takes a value but may stand alone, as in Ollama."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, ["--think=true" if arg == "--think" else arg for arg in args])


@with_engine_flags
def run(
    engine: EngineFlags,
    model: Annotated[
        str, typer.Argument(help="pico, a directory, a Hugging Face id, or a YAML file.", show_default=False)
    ],
    prompt: Annotated[
        list[str] | None, typer.Argument(help="What to ask; without it: a conversation.")
    ] = None,
    system: Annotated[str, typer.Option(help="The system message.", show_default=False)] = "",
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest token.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    format: Annotated[str | None, typer.Option(help="json, or a JSON schema: the answer's form.")] = None,
    think: Annotated[str | None, typer.Option(help="true, false, low, medium, high, max.")] = None,
    hidethinking: Annotated[bool, typer.Option("--hidethinking", help="Do not show the thinking.")] = False,
    nowordwrap: Annotated[
        bool, typer.Option("--nowordwrap", help="Do not break lines between words.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what each answer cost.")] = False,
    speak: Annotated[
        Path | None, typer.Option(help="Have the answer spoken into this file.", metavar="FILE.wav")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Who speaks.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where the picture goes, of a model that draws.", metavar="FILE.png"
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of a picture: 1024x1024.", metavar="WxH")] = None,
    steps: Annotated[int | None, typer.Option(help="Of a picture: how many its drawing takes.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Of a picture: how closely to keep to the text.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="Of a picture: what not to draw.")] = None,
) -> None:
    """Talk to a model, or ask it one thing, or have it draw."""
    from tutti import logs
    from tutti.cli.manner import Manner

    settings = read_settings()
    logs.configure("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    if speak is not None:
        check(speak)
    if output is not None:
        check_output(output)
    sheet = Sheet(output, size, steps, guidance, negative, engine.seed)
    manner = Manner(
        speak=speak,
        voice=voice,
        system=system,
        verbose=verbose,
        wrap=not nowordwrap,
        hide_thinking=hidethinking,
    )
    for name, value in (("temperature", temperature), ("max_tokens", max_tokens)):
        if value is not None:
            manner.set_parameter(name, [str(value)])
    if think is not None:
        manner.set_think(think)
    if format is not None:
        manner.set_format(format)
    text = " ".join(prompt or ())
    if not sys.stdin.isatty():
        text = "\n\n".join(part for part in (sys.stdin.read().strip(), text) if part)
    interactive = not text and sys.stdin.isatty() and sys.stdout.isatty()
    if not text and not interactive:
        raise InvalidRequest("there is no prompt: give one after the model's name, or pipe one in")
    options = engine.options(model, max_num_seqs=4)  # one person: the KV cache need not be large
    code = asyncio.run(
        _converse(options, manner) if interactive else _answer_once(options, manner, text, sheet)
    )
    if code:
        raise typer.Exit(code)


async def _answer_once(options: EngineOptions, manner: Manner, text: str, sheet: Sheet) -> int:
    from tutti.cli.printer import terminal_printer
    from tutti.cli.session import interrupts, open_session, print_statistics

    async with open_session(options) as session:
        if session.draws:
            return await draw(session, text, sheet)
        if sheet.asked:
            raise InvalidRequest(
                f"{session.name} does not draw: {', '.join(sheet.asked)} means nothing to it"
            )
        printer = terminal_printer(wrap=manner.wrap, hide_thinking=manner.hide_thinking)
        prompt = session.chat([session.message(text)], manner)
        asking = asyncio.ensure_future(session.ask(prompt, manner, printer))
        try:
            with interrupts(asking):
                answer = await asking
        except asyncio.CancelledError:
            return 130
        finally:
            printer.end()
        if manner.verbose:
            print(file=sys.stderr)
            print_statistics(answer, session.load_time, sys.stderr)
    return 0


async def _converse(options: EngineOptions, manner: Manner) -> int:
    from tutti.cli.repl import Repl
    from tutti.cli.session import open_session

    async with open_session(options) as session:
        if session.draws:
            raise InvalidRequest(f"{session.name} draws: give it a text after its name")
        await Repl(session, manner, read_settings().home_path / "history").run()
    return 0
