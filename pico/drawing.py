"""The examination of what pico draws: held-out scenes that it is asked for, as an independent viewer sees its pictures.

`python -m pico.drawing [--count N]`. A request is written or asked aloud; the thinker's own answer to it tells the painter
what to draw, so that whatever it misreads is wrong in the picture, too. The control compares every picture with the
scene of another request.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from .diffusers_engine import DiffusersEngine, Painted
from .engine import Prompt
from .evaluate import SHIPPED
from .recordings import asked_aloud
from .requests import draw_request
from .scenes import Scene, scene_of
from .sensing import AUDIO
from .tokenizer import render_prompt
from .values import LANGS, Exchange, Lang, Message
from .viewer.model import NOTHING, Viewer, truth

COLOUR_GATE, SHAPE_GATE, PLACE_GATE, EXACT_GATE = 0.97, 0.95, 0.95, 0.90
WRITTEN, ALOUD = "written", "asked aloud"
SHEET = (8, 4)
"""Columns and rows of a sheet of samples."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A request, how it is put (`WRITTEN` or `ALOUD`), and the scene that is to be drawn."""

    kind: str
    exchange: Exchange
    prompt: Prompt

    @property
    def scene(self) -> Scene:
        return scene_of(self.exchange.key)


@dataclass(frozen=True, slots=True)
class Marks:
    """What is right: shares from 0 to 1. Of things: `colour` and `shape`, each at its place; of pictures: `place`, whether
    things stand where they should and nowhere else, and `exact`, all of it."""

    colour: float
    shape: float
    place: float
    exact: float


def make_examination(seed: int, count: int) -> list[Wish]:
    """`count` held-out requests in writing in each language, and a third as many aloud."""
    exam: list[Wish] = []
    for lang in LANGS:
        rng = Random(f"pico|drawing|{seed}|{lang}")
        written = [draw_request(rng, lang, "heldout") for _ in range(count)]
        exam += [Wish(WRITTEN, one, Prompt(_rendered(one.question))) for one in written]
        exam += [_spoken(rng, lang) for _ in range(count // 3)]
    return exam


def _spoken(rng: Random, lang: Lang) -> Wish:
    """A request that is asked in the time that the ears hear at once."""
    while True:
        exchange = draw_request(rng, lang, "heldout", aloud=True)
        if (sound := asked_aloud(rng, exchange)) is not None:
            return Wish(ALOUD, exchange, Prompt(_rendered(AUDIO), sound))


def _rendered(content: str) -> str:
    return render_prompt([Message("user", content)])


def compare(viewer: Viewer, scenes: Sequence[Scene], pixels: torch.Tensor) -> Marks:
    """How pictures uint8 [pictures, 3, 64, 64] of `scenes` look to the viewer."""
    right, seen = truth(list(scenes)), viewer.see(pixels)
    there = right.shapes != NOTHING
    colour, shape = seen.colours == right.colours, seen.shapes == right.shapes
    place = ((seen.shapes != NOTHING) == there).all(1)
    return Marks(
        colour[there].float().mean().item(),
        shape[there].float().mean().item(),
        place.float().mean().item(),
        (colour & shape).all(1).float().mean().item(),
    )


def understood(wishes: Sequence[Wish], drawn: Sequence[Painted]) -> float:
    """How often the answer is the one right caption, with the sign that a picture follows."""
    return sum(one.answer == wish.exchange.answer for wish, one in zip(wishes, drawn, strict=True)) / len(
        wishes
    )


def pixels_of(drawn: Sequence[Painted]) -> torch.Tensor:
    """The pictures, uint8 [pictures, 3, 64, 64]; one that was not drawn is grey."""
    blank = Image.new("RGB", (64, 64), (128, 128, 128))
    pixels = np.stack([np.asarray(one.picture or blank) for one in drawn])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def print_table(viewer: Viewer, wishes: Sequence[Wish], drawn: Sequence[Painted]) -> None:
    """How requests were put, in which language; captions that are right, and what the pictures have right."""
    print(f"{'':24}{'prompts':>8}{'caption':>9}{'colour':>9}{'shape':>9}{'position':>9}{'exact':>9}")
    for kind in (WRITTEN, ALOUD):
        for lang in (*LANGS, None):
            chosen = [
                i for i, w in enumerate(wishes) if w.kind == kind and lang in (w.exchange.lang, None)
            ]  # fmt: skip
            some, theirs = [wishes[i] for i in chosen], [drawn[i] for i in chosen]
            marks = compare(viewer, [w.scene for w in some], pixels_of(theirs))
            print(
                f"{kind + (f', {lang}' if lang else ''):24}{len(some):8}{understood(some, theirs):9.1%}"
                f"{marks.colour:9.1%}{marks.shape:9.1%}{marks.place:9.1%}{marks.exact:9.1%}",
                flush=True,
            )


def control(viewer: Viewer, wishes: Sequence[Wish], drawn: Sequence[Painted]) -> tuple[Marks, Marks]:
    """Pictures compared with the scenes of other requests, and what painted pictures of other scenes would give."""
    scenes, others = [w.scene for w in wishes], [w.scene for w in wishes[1:]] + [wishes[0].scene]
    right, other = truth(scenes), truth(others)
    there = right.shapes != NOTHING
    colour, shape = right.colours == other.colours, right.shapes == other.shapes
    chance = Marks(
        colour[there].float().mean().item(), shape[there].float().mean().item(),
        ((other.shapes != NOTHING) == there).all(1).float().mean().item(), (colour & shape).all(1).float().mean().item(),
    )  # fmt: skip
    pixels = pixels_of(drawn)
    return compare(viewer, scenes, torch.cat([pixels[1:], pixels[:1]])), chance


def gates(marks: Marks) -> list[tuple[str, float, bool]]:
    """What each gate measures, and whether it is met."""
    return [
        (f"{name} >= {gate:.0%}", value, value >= gate)
        for name, value, gate in (
            ("colour", marks.colour, COLOUR_GATE),
            ("shape", marks.shape, SHAPE_GATE),
            ("position", marks.place, PLACE_GATE),
            ("all exact", marks.exact, EXACT_GATE),
        )
    ]


def save_sheet(drawn: Sequence[Painted], path: Path) -> None:
    """A sheet of the first pictures."""
    columns, rows = SHEET
    pixels = pixels_of(drawn[: columns * rows]).permute(0, 2, 3, 1).numpy()
    sheet = (
        pixels.reshape(rows, columns, 64, 64, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 64, columns * 64, 3)
    )
    Image.fromarray(sheet).save(path, optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pico.drawing", description="Examine what pico draws.")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--count", type=int, default=150, help="written requests in each language")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--steps", type=int, help="of the sampler, else as config.json says")
    parser.add_argument("--guidance", type=float, help="else as config.json says")
    parser.add_argument("--mistakes", type=int, default=0, help="how many wrong answers to print")
    parser.add_argument("--sheet", type=Path, help="where to leave some of the pictures")
    options = parser.parse_args()
    viewer = Viewer.load()
    engine = DiffusersEngine.load(options.model, options.steps, options.guidance)
    exam = make_examination(options.seed, options.count)
    drawn = engine.draw([wish.prompt for wish in exam], options.seed)
    print_table(viewer, exam, drawn)
    mixed, chance = control(viewer, exam, drawn)
    print(
        f"control: other requests' pictures: colour {mixed.colour:.1%} (chance {chance.colour:.1%}), shape {mixed.shape:.1%}"
        f" ({chance.shape:.1%}), position {mixed.place:.1%} ({chance.place:.1%}), exact {mixed.exact:.1%} ({chance.exact:.1%})"
    )
    wrong = [(w, d) for w, d in zip(exam, drawn, strict=True) if w.exchange.answer != d.answer]
    for wish, one in wrong[: options.mistakes]:
        print(
            f"[{wish.kind}] {wish.exchange.question}\n    right: {wish.exchange.answer}\n    given: {one.answer}"
        )
    if options.sheet:
        save_sheet([d for w, d in zip(exam, drawn, strict=True) if w.kind == WRITTEN], options.sheet)
    written = [(w, d) for w, d in zip(exam, drawn, strict=True) if w.kind == WRITTEN]
    found = gates(compare(viewer, [w.scene for w, _ in written], pixels_of([d for _, d in written])))
    for name, value, met in found:
        print(f"gate {name}: {'met' if met else 'NOT met'} ({value:.2%})")
    return 0 if all(met for _, _, met in found) else 1


if __name__ == "__main__":
    sys.exit(main())
