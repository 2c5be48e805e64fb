"""`tutti run MODEL "a red circle" -o out.png` with a model that draws: one picture into a file."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import ConfigError
from tutti.events import Failed, ImageDone, Progress

if TYPE_CHECKING:
    from tutti.cli.local import LocalSession

_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """How a picture was asked for at the command line; what is None is the model's own habit."""

    output: Path | None = None
    size: str | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str | None = None
    seed: int | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: Path | None = None
    lora_scale: float = 1.0

    @property
    def asked(self) -> list[str]:
        """The flags that were typed and mean something to a model that draws only."""
        own = ("output", "size", "steps", "guidance", "negative", "cache", "cache_threshold", "lora")
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
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"-o {path}: the name must end with {', '.join(_FORMATS)}", param="output")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {path}: there is no folder {path.parent}", param="output")


async def draw(session: LocalSession, prompt: str, sheet: Sheet) -> int:
    """Draw `prompt` into a file, whose name is printed; the exit code. Raises TuttiError."""
    import asyncio

    from tutti.cli.session import interrupts
    from tutti.media.image import transcode
    from tutti.models.processor.drawer import drawing_request, parse_size
    from tutti.request import Drawing

    width, height = parse_size(sheet.size) if sheet.size else (None, None)
    drawing = Drawing(
        width=width,
        height=height,
        steps=sheet.steps,
        guidance=sheet.guidance,
        cache=sheet.cache,
        cache_threshold=sheet.cache_threshold,
        lora=sheet.adapter,
        lora_scale=sheet.lora_scale,
    )
    request = drawing_request(
        prompt, sheet.negative, drawing, id=uuid.uuid4().hex, model=session.name, seed=sheet.seed
    )
    request = await session.backend.prepare(request)
    path = sheet.output or Path(f"picture-{request.sampling.seed}.png")
    work = asyncio.ensure_future(_png(session, request))
    try:
        with interrupts(work):
            png = await work
    except asyncio.CancelledError:
        return 130
    try:
        path.write_bytes(transcode(png, _FORMATS[path.suffix.lower()]))
    except OSError as error:
        raise ConfigError(f"-o {path}: {error.strerror}") from error
    print(path)
    return 0


async def _png(session: LocalSession, request: Any) -> bytes:
    """The finished picture; steps are shown as they pass."""
    png = b""
    with _bar() as show:
        async with aclosing(session.backend.generate(request)) as events:
            async for event in events:
                match event:
                    case Progress():
                        show(event)
                    case ImageDone(preview=False):
                        png = event.png
                    case Failed():
                        raise event.error.error()
    return png


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
