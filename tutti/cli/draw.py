"""`tutti run MODEL "a red circle" -o out.png` with a model that draws: one picture, or film, into a file."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import ConfigError
from tutti.events import Event, Failed, ImageDone, Progress, VideoDelta

if TYPE_CHECKING:
    from tutti.cli.local import LocalSession
    from tutti.request import Media, Request

_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
_FILMS = (".mp4",)


@dataclass(frozen=True, slots=True)
class Sheet:
    """How a picture or a film was asked for at the command line; what is None is the model's own habit."""

    output: Path | None = None
    size: str | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str | None = None
    seed: int | None = None
    strength: float | None = None
    mask: Path | None = None
    frames: int | None = None
    fps: float | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: Path | None = None
    lora_scale: float = 1.0

    @property
    def asked(self) -> list[str]:
        """The flags that were typed and mean something to a model that draws only."""
        picture = ("output", "size", "steps", "guidance", "negative", "strength", "mask", "frames", "fps")
        own = (*picture, "cache", "cache_threshold", "lora")
        return [f"--{name.replace('_', '-')}" for name in own if getattr(self, name) is not None]

    @property
    def adapter(self) -> str | None:
        """The name that the adapter has in the engine."""
        return None if self.lora is None else self.lora.stem.replace("=", "-")

    @property
    def modules(self) -> tuple[str, ...]:
        """What the engine is told of the adapter."""
        return () if self.lora is None else (f"{self.adapter}={self.lora}",)


def check_output(path: Path) -> None:
    """Raises ConfigError on a file that cannot be written, before anything is loaded."""
    known = (*_FORMATS, *_FILMS)
    if path.suffix.lower() not in known:
        raise ConfigError(f"-o {path}: the name must end with {', '.join(known)}", param="output")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {path}: there is no folder {path.parent}", param="output")


async def draw(session: LocalSession, prompt: str, sheet: Sheet) -> int:
    """Draw `prompt` into a file, whose name is printed; the exit code. Raises TuttiError.

    Pictures that the prompt names are drawn from.
    """
    import asyncio

    from tutti.cli.session import interrupts
    from tutti.models.processor.drawer import drawing_request, parse_sides
    from tutti.request import Drawing

    width, height = parse_sides(sheet.size)
    drawing = Drawing(
        width=width,
        height=height,
        steps=sheet.steps,
        guidance=sheet.guidance,
        strength=sheet.strength,
        frames=sheet.frames,
        fps=sheet.fps,
        cache=sheet.cache,
        cache_threshold=sheet.cache_threshold,
        lora=sheet.adapter,
        lora_scale=sheet.lora_scale,
    )
    text, media = _pictures(prompt, sheet.mask)
    request = drawing_request(
        text, sheet.negative, drawing, id=uuid.uuid4().hex, model=session.name, seed=sheet.seed, media=media
    )
    _check_kind(sheet.output, session.films)
    request = await session.backend.prepare(request)
    seed = request.sampling.seed
    path = sheet.output or Path(f"film-{seed}.mp4" if session.films else f"picture-{seed}.png")
    work = asyncio.ensure_future((_film if session.films else _picture)(session, request, path))
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


def _check_kind(path: Path | None, films: bool) -> None:
    """Raises ConfigError where the name says a picture and the model films, or the other way round."""
    fitting = _FILMS if films else tuple(_FORMATS)
    if path is not None and path.suffix.lower() not in fitting:
        does = "films" if films else "draws pictures"
        raise ConfigError(
            f"-o {path}: this model {does}: the name must end with {', '.join(fitting)}", param="output"
        )


async def _picture(session: LocalSession, request: Request, path: Path) -> bytes:
    """The file of the finished picture."""
    from tutti.media.image import transcode

    async with aclosing(_events(session, request)) as events:
        pngs = [event.png async for event in events if isinstance(event, ImageDone) and not event.preview]
    return transcode(pngs[-1], _FORMATS[path.suffix.lower()])


async def _film(session: LocalSession, request: Request, path: Path) -> bytes:
    """The file of the finished film."""
    from tutti.media.film import joined, write_film

    async with aclosing(_events(session, request)) as events:
        pieces = [event async for event in events if isinstance(event, VideoDelta)]
    return write_film(joined(pieces), pieces[0].rate, pieces[0].note)


async def _events(session: LocalSession, request: Request) -> AsyncGenerator[Event, None]:
    """What becomes of a request; steps are shown as they pass. Raises what ended it early."""
    with _bar() as show:
        async with aclosing(session.backend.generate(request)) as events:
            async for event in events:
                match event:
                    case Progress():
                        show(event)
                    case Failed():
                        raise event.error.error()
                yield event


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar of steps on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("drawing", total=None)
        yield lambda progress: bars.update(task, total=progress.total, completed=progress.done)
