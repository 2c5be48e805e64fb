"""Pictures in answers: their steps as a bar, the finished ones in files, and on terminals that can show them.

A terminal shows a picture by its own protocol (kitty's or iTerm2's), or as half blocks where it has 24-bit colours.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from tutti.errors import ConfigError

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
_ROWS = 16  # of the terminal, that a picture fills
_PIECE = 4096  # characters of base64 that kitty takes at once


class StepBar:
    """A bar of steps on a terminal, from the first one on; nothing elsewhere."""

    def __init__(self) -> None:
        self._bars: Any = None

    def show(self, done: int, total: int) -> None:
        """`done` of `total` steps are."""
        if not sys.stderr.isatty():
            return
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            # No thread of its own draws it: pictures are shown above it meanwhile.
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._bars.add_task("drawing", total=total)
            self._bars.start()
        self._bars.update(self._bars.task_ids[0], completed=done, refresh=True)

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def keep(pngs: list[bytes], path: Path | None) -> list[Path]:
    """The files of these pictures: `path` and its numbered neighbours, or named by the seed. Raises ConfigError."""
    from tutti.media.image import transcode

    files = []
    for number, png in enumerate(pngs):
        file = Path(f"picture-{_seed(png)}.png") if path is None else path
        if path is not None and number:
            file = path.with_stem(f"{path.stem}-{number + 1}")
        try:
            file.write_bytes(transcode(png, FORMATS[file.suffix.lower()]))
        except OSError as error:
            raise ConfigError(f"-o {file}: {error.strerror}", param="output") from error
        files.append(file)
    return files


class Easel:
    """A place on the terminal `out` where a picture is seen coming: each one is shown over the one before."""

    def __init__(self, out: TextIO) -> None:
        from tutti.settings import terminal_pictures

        ways = {"kitty": _kitty, "iterm": _iterm, "colours": _blocks}
        self._way = ways.get(terminal_pictures()) if out.isatty() else None
        self._out = out
        self._shown = False

    @property
    def stands(self) -> bool:
        """Whether the terminal can show pictures."""
        return self._way is not None

    def show(self, png: bytes) -> None:
        """Show a picture, if the terminal can."""
        if self._way is None:
            return
        back = f"\r\x1b[2K\x1b[{_ROWS}A" if self._shown else ""
        self._out.write(back + self._way(png))
        self._out.flush()
        self._shown = True


def preview(png: bytes, out: TextIO) -> None:
    """Show a picture on the terminal `out`, if it can."""
    Easel(out).show(png)


def _seed(png: bytes) -> str:
    """The seed by which a picture says that it was drawn."""
    from tutti.media.image import read_note

    note = json.loads(read_note(png) or "{}")
    return str(note.get("seed", "1"))


def _kitty(png: bytes) -> str:
    """See https://sw.kovidgoyal.net/kitty/graphics-protocol."""
    data = base64.b64encode(png).decode()
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    heads = [f"a=T,f=100,r={_ROWS},", *[""] * (len(pieces) - 1)]
    return (
        "".join(
            f"\x1b_G{head}m={int(number < len(pieces) - 1)};{piece}\x1b\\"
            for number, (head, piece) in enumerate(zip(heads, pieces, strict=True))
        )
        + "\n"
    )


def _iterm(png: bytes) -> str:
    """See https://iterm2.com/documentation-images.html."""
    data = base64.b64encode(png).decode()
    return f"\x1b]1337;File=inline=1;size={len(png)};height={_ROWS}:{data}\x07\n"


def _blocks(png: bytes) -> str:
    """Two pixels a character, one above the other."""
    import io

    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    height = 2 * _ROWS
    width = max(1, min(64, round(image.width * height / image.height)))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines) + "\n"
