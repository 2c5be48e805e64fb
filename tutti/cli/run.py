"""`tutti run MODEL [PROMPT]`: one answer, or a conversation.

A prompt after the model's name, or text piped in, is answered once; a terminal with neither opens the conversation of
`repl`. The server that runs answers, or else this process: see `place`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tutti.cli.draw import check_output, draw
from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.sheet import Sheet
from tutti.cli.speech import check
from tutti.cli.transfers import Insecure
from tutti.errors import ConfigError, InvalidRequest, NotDrawn
from tutti.settings import EngineOptions, read_settings

if TYPE_CHECKING:
    from tutti.cli.card import Card
    from tutti.cli.local import LocalSession
    from tutti.cli.manner import Manner
    from tutti.cli.remote import RemoteSession
    from tutti.cli.session import Session

_MAY_STAND_ALONE = ("--think", "--truncate")  # flags that take a value, `=false` for instance, as in Ollama


class RunCommand(TyperCommand):
    """Some flags take a value but may stand alone, as in Ollama."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, [f"{arg}=true" if arg in _MAY_STAND_ALONE else arg for arg in args])


@with_engine_flags
def run(
    engine: EngineFlags,
    model: Annotated[
        str,
        typer.Argument(
            help="A model of the server or the store, pico, a path, a Hugging Face id, or a YAML file.",
            show_default=False,
        ),
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
    keepalive: Annotated[
        str, typer.Option(help="How long the server keeps the model: 5m; -1m: for ever.", show_default=False)
    ] = "",
    insecure: Insecure = False,
    truncate: Annotated[
        str | None,
        typer.Option(
            help="Of a model that embeds: false refuses a text that is too long.", show_default=False
        ),
    ] = None,
    dimensions: Annotated[
        int, typer.Option(help="Of a model that embeds: how long the vector is.", show_default=False)
    ] = 0,
    speak: Annotated[
        Path | None, typer.Option(help="Have the answer spoken into this file.", metavar="FILE.wav")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Who speaks.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the picture, film or sound goes, of a model that makes such; of one that chats, too.",
            metavar="FILE.png",
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of a picture: 1024x1024.", metavar="WxH")] = None,
    steps: Annotated[int | None, typer.Option(help="Of a picture: how many its drawing takes.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Of a picture: how closely to keep to the text.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="Of a picture: what not to draw.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="Of a picture that is drawn from: how much is changed, 0 to 1.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Of the same: what is drawn anew, transparent or white.", metavar="FILE"),
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of a film: how many pictures it has.")] = None,
    fps: Annotated[float | None, typer.Option(help="Of a film: how many it shows a second.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of a sound: how long it is.")] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Of a picture: first_block or teacache; most of a step is skipped if little changed."
        ),
    ] = None,
    cache_threshold: Annotated[
        float | None, typer.Option(help="What little is: 0 skips nothing.", show_default=False)
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="Of a picture: a LoRA adapter.", metavar="FILE.safetensors")
    ] = None,
    lora_scale: Annotated[float, typer.Option(help="How much of the adapter.")] = 1.0,
) -> None:
    """Talk to a model, or ask it one thing, or have it draw."""
    import asyncio

    from tutti import logs
    from tutti.cli.client import Client
    from tutti.cli.manner import Manner
    from tutti.cli.place import Place, choose

    settings = read_settings()
    logs.configure("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    if speak is not None:
        check(speak)
    if output is not None:
        check_output(output)
    sheet = Sheet(
        output,
        size,
        steps,
        guidance,
        negative,
        engine.seed,
        strength=strength,
        mask=mask,
        frames=frames,
        fps=fps,
        seconds=seconds,
        cache=cache,
        cache_threshold=cache_threshold,
        lora=lora,
        lora_scale=lora_scale,
    )
    if sheet.modules:
        engine = replace(engine, lora_modules=[*(engine.lora_modules or []), *sheet.modules])
    manner = Manner(
        speak=speak,
        voice=voice,
        system=system,
        verbose=verbose,
        wrap=not nowordwrap,
        hide_thinking=hidethinking,
        sheet=sheet,
    )
    _set(manner, temperature, max_tokens, format, think, keepalive)
    cut = _truth(truncate)
    text, interactive = _prompt(prompt or [])

    async def place() -> Place:
        async with Client.of(settings) as client:
            return await choose(
                client, model, engine, speaks=speak is not None, draws=bool(sheet.asked), insecure=insecure
            )

    chosen = asyncio.run(place())
    if chosen.why and verbose:
        print(f"in this process: {chosen.why}", file=sys.stderr)
    if chosen.card is not None:
        work = _by_server(model, chosen.card, manner, text, interactive, cut, dimensions)
    else:
        _needs_prompt(text, interactive)
        options = engine.options(model, max_num_seqs=4)  # one person: the KV cache need not be large
        work = _in_process(engine, options, manner, text, interactive, cut, dimensions)
    code = asyncio.run(work)
    if code:
        raise typer.Exit(code)


def _set(
    manner: Manner,
    temperature: float | None,
    max_tokens: int | None,
    format: str | None,
    think: str | None,
    keep_alive: str,
) -> None:
    """What the flags say, checked as `/set` does. Raises ConfigError, InvalidRequest."""
    for name, value in (("temperature", temperature), ("max_tokens", max_tokens)):
        if value is not None:
            manner.set_parameter(name, [str(value)])
    if think is not None:
        manner.set_think(think)
    if format:
        manner.set_format(format)
    if keep_alive:
        manner.set_keep_alive(keep_alive)


def _prompt(words: list[str]) -> tuple[str, bool]:
    """What is asked, with what is piped in before it, and whether to converse instead."""
    text = " ".join(words)
    if not sys.stdin.isatty():
        text = "\n\n".join(part for part in (sys.stdin.read().strip(), text) if part)
    return text, not text and sys.stdin.isatty() and sys.stdout.isatty()


def _needs_prompt(text: str, interactive: bool) -> None:
    if not text and not interactive:
        raise InvalidRequest("there is no prompt: give one after the model's name, or pipe one in")


def _truth(text: str | None) -> bool | None:
    """What a flag says that is true or false. Raises ConfigError."""
    if text is None or text.lower() in ("true", "t", "1", "false", "f", "0"):
        return None if text is None else text.lower() in ("true", "t", "1")
    raise ConfigError(f"--truncate takes true or false; got {text!r}")


async def _by_server(
    model: str,
    card: Card,
    manner: Manner,
    text: str,
    interactive: bool,
    truncate: bool | None,
    dimensions: int,
) -> int:
    """Have the server answer; the exit code."""
    from tutti.cli.client import Client
    from tutti.cli.remote import EMBEDDING, RemoteSession

    async with Client.of() as client:
        session = RemoteSession(client, model, card, manner.keep_alive)
        if EMBEDDING in card.capabilities:
            await _print_vector(session, text, truncate, dimensions)
            return 0
        _needs_prompt(text, interactive)
        if not interactive and manner.sheet.asked:
            if session.names_files(text):
                return await _answer_once(session, manner, text, told=str)
            return await _draw_once(session, manner, text)
        if not interactive:
            return await _answer_once(session, manner, text)
        await session.load(manner.think)
        await _converse(session, manner)
        return 0


async def _in_process(
    flags: EngineFlags,
    options: EngineOptions,
    manner: Manner,
    text: str,
    interactive: bool,
    truncate: bool | None,
    dimensions: int,
) -> int:
    """Load the model here and have it answer, or draw, or make a vector; the exit code."""
    from tutti.cli.local import LocalSession
    from tutti.cli.remote import EMBEDDING

    session = await LocalSession.open(flags, options)
    embeds = EMBEDDING in session.card.capabilities
    sheet = manner.sheet
    if interactive and not embeds and not session.draws and (session.illustrates or not sheet.asked):
        await _converse(session, manner)
        return 0
    try:
        if session.draws:
            if interactive:
                raise InvalidRequest(f"{session.name} draws: give it a text after its name")
            return await draw(session, text, sheet)
        if sheet.asked and not session.illustrates:
            raise InvalidRequest(
                f"{session.name} does not draw: {', '.join(sheet.asked)} means nothing to it"
            )
        if embeds:
            await _print_vector(session, text, truncate, dimensions)
            return 0
        return await _answer_once(session, manner, text, told=session.told if sheet.asked else None)
    finally:
        await session.close()


async def _print_vector(
    session: RemoteSession | LocalSession, text: str, truncate: bool | None, dimensions: int
) -> None:
    if not text:
        raise InvalidRequest(
            f'embedding models require input text. Usage: tutti run {session.name} "your text here"'
        )
    vector = await session.embed(text, truncate, dimensions)
    print(json.dumps(vector, separators=(",", ":")))


async def _draw_once(session: RemoteSession, manner: Manner, text: str) -> int:
    """Have the server draw one picture, whose words are printed; the exit code. Raises TuttiError."""
    import asyncio

    from tutti.cli import drawn
    from tutti.cli.session import interrupts

    work = asyncio.ensure_future(session.draw(text, manner.sheet))
    try:
        with interrupts(work):
            said, png = await work
    except asyncio.CancelledError:
        return 130
    print(said)
    (file,) = drawn.keep([png], manner.sheet.output)
    drawn.preview(png, sys.stdout)
    print(file)
    return 0


async def _answer_once(
    session: Session, manner: Manner, text: str, *, told: Callable[[str], str] | None = None
) -> int:
    """One answer; the exit code. Raises TuttiError.

    It must have a picture where `told` is given, which makes a request to draw of a prompt that names no files.
    """
    from tutti.cli.session import answer_to, interrupts, message_of, print_statistics

    message = message_of(text, session)
    if told is not None and isinstance(message["content"], str):
        message["content"] = told(message["content"])
    answer = await answer_to(session, [message], manner, interrupts)
    if answer is None:
        return 130
    if told is not None and not answer.pictures:
        raise NotDrawn.instead(answer.text)
    if manner.verbose:
        print(file=sys.stderr)
        print_statistics(answer.cost, sys.stderr)
    return 0


async def _converse(session: Session, manner: Manner) -> None:
    """Converse with the session's model, or with those that take its place, and close the last one."""
    from tutti.cli.repl import Repl

    settings = read_settings()
    repl = Repl(session, manner, settings.home_path / "history", keeps=not settings.nohistory)
    try:
        await repl.run()
    finally:
        await repl.session.close()
