"""`tutti speak MODEL TEXT -o FILE`: a text is read aloud into a file, or into a pipe while it is spoken."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from tutti.cli.flags import EngineFlags, with_engine_flags
from tutti.cli.speech import FORMATS, check
from tutti.errors import ConfigError, InvalidRequest
from tutti.events import AudioDelta, Failed
from tutti.request import Request, SamplingParams, Script
from tutti.settings import EngineOptions, read_settings

if TYPE_CHECKING:
    from tutti.llm.stream import AsyncLLM

Sounds = AsyncGenerator[AudioDelta, None]


@with_engine_flags
def speak(
    engine: EngineFlags,
    model: Annotated[str, typer.Argument(help="A directory or a Hugging Face id.", show_default=False)],
    text: Annotated[
        list[str] | None, typer.Argument(help="What to say; without it: what is piped in.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file; its ending is the format. -: the pipe.")
    ] = Path("speech.wav"),
    voice: Annotated[str | None, typer.Option(help="Who speaks.")] = None,
    speed: Annotated[float, typer.Option(help="From 0.25 to 4; the pitch stays.")] = 1.0,
    format: Annotated[
        str | None, typer.Option(help="wav, mp3, flac, opus, aac or pcm, whatever the file's name.")
    ] = None,
    instructions: Annotated[str, typer.Option(help="How to say it, for models that heed that.")] = "",
    language: Annotated[str | None, typer.Option(help="What it is spoken in.")] = None,
) -> None:
    """Have a model read a text aloud."""
    import asyncio

    from tutti import logs
    from tutti.media.audio_writer import check_format
    from tutti.media.spoken import check_speed

    settings = read_settings()
    logs.configure("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    said = " ".join(text or ()) or ("" if sys.stdin.isatty() else sys.stdin.read())
    if not said.strip():
        raise InvalidRequest("there is nothing to say: give a text after the model's name, or pipe one in")
    piped = str(output) == "-"
    if not piped:
        check(output, "-o", any_name=format is not None)
    form = format or ("wav" if piped else FORMATS[output.suffix.lower()])
    check_format(form)
    check_speed(speed)
    request = Request(
        id=uuid.uuid4().hex,
        parts=(Script(said, instructions),),
        sampling=SamplingParams(max_tokens=None),
        modalities=("audio",),
        live=piped,
        voice=voice,
        language=language,
        arrival=time.time(),
    )
    options = engine.options(model, max_num_seqs=4)  # one person: the KV cache need not be large
    to = sys.stdout.buffer if piped else output
    code = asyncio.run(_speak(options, request, to, form, speed))
    if code:
        raise typer.Exit(code)


async def _speak(
    options: EngineOptions, request: Request, to: Path | BinaryIO, format: str, speed: float
) -> int:
    """Load the model and have `request` spoken into `to`; the exit code."""
    import asyncio

    from tutti.cli.local import open_llm
    from tutti.cli.session import interrupts, spinner

    with spinner(f"loading {options.served_model_name[0]}"):
        llm = await open_llm(options, in_process=True)
    async with llm:
        into = _into_file if isinstance(to, Path) else _into_pipe
        work = asyncio.ensure_future(into(_sounds(llm, request), to, format, speed))
        try:
            with interrupts(work):
                await work
        except asyncio.CancelledError:
            return 130
    return 0


async def _into_file(sounds: Sounds, path: Any, format: str, speed: float) -> None:
    from tutti.media.spoken import whole_file

    data = whole_file([sound async for sound in sounds], format, speed)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"-o {path}: {error.strerror}") from error


async def _into_pipe(sounds: Sounds, pipe: Any, format: str, speed: float) -> None:
    from tutti.media.spoken import SpokenFile

    file = SpokenFile(format, speed)
    async with aclosing(sounds):
        async for sound in sounds:
            pipe.write(file.push(sound))
            pipe.flush()
    pipe.write(file.finish())
    pipe.flush()


async def _sounds(llm: AsyncLLM, request: Request) -> Sounds:
    """The sound of the whole text. Raises what ends it early."""
    for reading in llm.backend.processor.readings(request, llm.info.context):
        async with aclosing(llm.backend.generate(reading)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, AudioDelta):
                    yield event
