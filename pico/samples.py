"""The picture and the recordings that `make demo` shows pico: `python -m pico.samples [--out docs/demo]`. All are held out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeVar

import soundfile

from .arithmetic import addition
from .gallery import draw_scene
from .pictures import PLAIN, draw
from .requests import draw_request
from .scenes import Scene, describe, scene_of
from .speech import HEARD_RATE, Speaker, say
from .spoken import draw_spoken
from .values import Exchange

T = TypeVar("T")
SPEAKER = Speaker("en-gb-x-rp+f2", rate=150)
"""Who asks: not the one who answers."""


def scene() -> Scene:
    """Three shapes in a row."""
    return _first(
        "picture", lambda rng: draw_scene(rng, "heldout"), lambda s: s.layout == "row" and len(s.things) == 3
    )


def question() -> Exchange:
    """A sum in English."""
    return _first(
        "recording",
        lambda rng: draw_spoken(rng, "en", "heldout", addition),
        lambda e: e.question[:1].isupper(),
    )


def wish() -> Exchange:
    """A request to draw two shapes beside each other, in English."""
    return _first(
        "wish",
        lambda rng: draw_request(rng, "en", "heldout", aloud=True),
        lambda e: e.question.startswith("Draw") and _is_pair(scene_of(e.key)),
    )


def _is_pair(scene: Scene) -> bool:
    return scene.layout == "row" and len(scene.things) == 2


def _first(name: str, draw_one: Callable[[Random], T], wanted: Callable[[T], bool]) -> T:
    rng = Random(f"pico|samples|{name}")
    while not wanted(found := draw_one(rng)):
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pico.samples", description="Make what the demonstration shows."
    )
    parser.add_argument("--out", type=Path, default=Path("docs") / "demo")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    shown, asked, wanted = scene(), question(), wish()
    draw(Random(0), shown, replace(PLAIN, size=(256, 256))).save(out / "shapes.png", optimize=True)
    print(f"{out}/shapes.png: {describe(shown, 'en')}")
    for name, one in (("question", asked), ("wish", wanted)):
        soundfile.write(out / f"{name}.flac", say(one.question, SPEAKER), HEARD_RATE)
        print(f"{out}/{name}.flac: {one.question} {one.answer}")


if __name__ == "__main__":
    main()
