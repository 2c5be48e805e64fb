"""`tutti run MODEL "a red circle" -o out.png` with a model that only draws: one picture, film or sound into a file."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from tutti.cli.drawn import FORMATS, Easel, StepBar
from tutti.cli.sheet import Sheet
from tutti.cli.speech import FORMATS as SOUNDS
from tutti.errors import ConfigError
from tutti.events import AudioDelta, Event, Failed, ImageDone, Progress, VideoDelta

if TYPE_CHECKING:
    from tutti.cli.local import LocalSession
    from tutti.request import Media, Request

_SKETCHES = 8  # of a picture on its way, on a terminal that shows them
# Of what a model gives: what it does, how a file of it may end, and what it is called without a name.
_KINDS = {
    "image": ("draws pictures", tuple(FORMATS), "picture-{}.png"),
    "video": ("films", (".mp4",), "film-{}.mp4"),
    "sound": ("makes sounds", tuple(SOUNDS), "sound-{}.wav"),
}


def check_output(path: Path) -> None:
    """Raises ConfigError on a file that cannot be written, before anything is loaded."""
    known = [ending for _, endings, _ in _KINDS.values() for ending in endings]
    if path.suffix.lower() not in known:
        raise ConfigError(f"-o {path}: the name must end with {', '.join(known)}", param="output")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {path}: there is no folder {path.parent}", param="output")


async def draw(session: LocalSession, prompt: str, sheet: Sheet) -> int:
    """Draw `prompt` into a file, whose name is printed; the exit code. Raises TuttiError.

    Pictures that the prompt names are drawn from.
    """
    import asyncio

    from msgspec.structs import replace

    from tutti.cli.session import interrupts
    from tutti.models.processor.drawer import drawing_request

    text, media = _pictures(prompt, sheet.mask)
    easel = Easel(sys.stdout)
    request = drawing_request(
        text,
        sheet.negative,
        replace(sheet.drawing, previews=_SKETCHES if easel.stands else 0),
        id=uuid.uuid4().hex,
        model=session.name,
        seed=sheet.seed,
        media=media,
    )
    _check_kind(sheet.output, session.output)
    request = await session.backend.prepare(request)
    path = sheet.output or Path(_KINDS[session.output][2].format(request.sampling.seed))
    makers = {"image": _picture, "video": _film, "sound": _sound}
    work = asyncio.ensure_future(makers[session.output](session, request, path, easel))
    try:
        with interrupts(work):
            data = await work
    except asyncio.CancelledError:
        return 130
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"-o {path}: {error.strerror}") from error
    print(path)
    return 0


def _pictures(prompt: str, mask: Path | None) -> tuple[str, list[Media]]:
    """What is left of `prompt` beside the pictures that it names, these, and the mask. Raises InvalidRequest."""
    from tutti.cli.attach import content_of, media_in
    from tutti.request import Media

    content = content_of(prompt, frozenset({"image"}))
    media = media_in([{"content": content}])
    if not isinstance(content, str):
        prompt = " ".join(part["text"] for part in content if part["type"] == "text")
    if mask is not None:
        try:
            media.append(Media("mask", mask.read_bytes()))
        except OSError as error:
            raise ConfigError(f"--mask {mask}: {error.strerror}", param="mask") from error
    return prompt, media


def _check_kind(path: Path | None, output: str) -> None:
    """Raises ConfigError where the name says one thing and the model gives another."""
    does, fitting, _ = _KINDS[output]
    if path is not None and path.suffix.lower() not in fitting:
        raise ConfigError(
            f"-o {path}: this model {does}: the name must end with {', '.join(fitting)}", param="output"
        )


async def _picture(session: LocalSession, request: Request, path: Path, easel: Easel) -> bytes:
    """The file of the finished picture."""
    from tutti.media.image import transcode

    async with aclosing(_events(session, request, easel)) as events:
        pngs = [event.png async for event in events if isinstance(event, ImageDone) and not event.preview]
    return transcode(pngs[-1], FORMATS[path.suffix.lower()])


async def _film(session: LocalSession, request: Request, path: Path, easel: Easel) -> bytes:
    """The file of the finished film."""
    from tutti.media.film import joined, write_film

    async with aclosing(_events(session, request, easel)) as events:
        pieces = [event async for event in events if isinstance(event, VideoDelta)]
    return write_film(joined(pieces), pieces[0].rate, pieces[0].note)


async def _sound(session: LocalSession, request: Request, path: Path, easel: Easel) -> bytes:
    """The file of the sound."""
    from tutti.media.audio_writer import write_sounds

    async with aclosing(_events(session, request, easel)) as events:
        sounds = [event async for event in events if isinstance(event, AudioDelta)]
    return write_sounds(sounds, SOUNDS[path.suffix.lower()])


async def _events(session: LocalSession, request: Request, easel: Easel) -> AsyncGenerator[Event, None]:
    """What becomes of a request; steps and pictures are shown as they pass. Raises what ended it early."""
    with StepBar() as bar:
        async with aclosing(session.backend.generate(request)) as events:
            async for event in events:
                match event:
                    case Progress():
                        bar.show(event.done, event.total)
                    case ImageDone():
                        easel.show(event.png)
                    case Failed():
                        raise event.error.error()
                yield event
