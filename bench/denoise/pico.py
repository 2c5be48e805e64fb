"""What feature caches do to pictures that mean something: `python -m bench.denoise.pico [--count 50]`.

pico is asked for held-out scenes, without a cache and with each cache and threshold: how many of the denoiser's steps
are spared and how much less of its time is needed, how alike the pictures are to those without (PSNR), and whether the
examination of `pico.drawing` is still passed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.children import save
from bench.denoise.likeness import psnr
from bench.denoise.work import median, percentile
from pico.drawing import WRITTEN, Wish, compare, gates, make_examination
from pico.viewer.model import Viewer
from tutti import Omni

CACHES = (
    "none",
    "first_block:0.05",
    "first_block:0.1",
    "first_block:0.2",
    "teacache:0.2",
    "teacache:0.3",
    "teacache:0.5",
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The pictures of an examination, what the denoiser did for them, and the seconds that it took."""

    pictures: list[Image.Image]
    steps: int
    skipped: int
    seconds: float


def main() -> None:
    """Draws the examination by each cache, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.denoise.pico",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=50, help="written requests in each language")
    parser.add_argument("--seed", type=int, default=2027)
    parser.add_argument("--caches", nargs="+", default=list(CACHES), metavar="NAME:THRESHOLD")
    options = parser.parse_args()
    wishes = [wish for wish in make_examination(options.seed, options.count) if wish.kind == WRITTEN]
    viewer = Viewer.load()
    with Omni("pico") as omni:
        plain = draw(omni, wishes[:2], "none")  # the painter is built at its first picture
        plain = draw(omni, wishes, "none")
        results = [row(viewer, wishes, plain, draw(omni, wishes, cache), cache) for cache in options.caches]
    text = table(results)
    print(text)
    save("denoise-pico", "Feature caches on pico", f"{len(wishes)} held-out requests", results, text)


def draw(omni: Omni, wishes: list[Wish], cache: str) -> Drawn:
    """Each wish's picture, with its number as the seed."""
    name, _, threshold = cache.partition(":")
    before = stage(omni)
    pictures = [
        omni.generate(
            text=wish.exchange.question,
            modalities=["text", "image"],
            seed=number,
            cache=name,
            cache_threshold=float(threshold) if threshold else None,
        ).images
        for number, wish in enumerate(wishes)
    ]
    after = stage(omni)
    blank = Image.new("RGB", (64, 64), (128, 128, 128))
    return Drawn(
        [found[0] if found else blank for found in pictures],
        after.items - before.items,
        after.skipped - before.skipped,
        after.step_time - before.step_time,
    )


def stage(omni: Omni) -> Any:
    """What the denoiser has done so far."""
    stages = omni._answerer.engine.stats().stages  # type: ignore[attr-defined]
    return next(one for one in stages if one.name == "denoiser")


def row(viewer: Viewer, wishes: list[Wish], plain: Drawn, drawn: Drawn, cache: str) -> dict[str, Any]:
    """A line of the table."""
    alike = [
        psnr(*(torch.from_numpy(np.asarray(one.convert("RGB")).copy()).double() for one in pair))
        for pair in zip(plain.pictures, drawn.pictures, strict=True)
    ]
    pixels = torch.stack([torch.from_numpy(np.asarray(one.convert("RGB")).copy()) for one in drawn.pictures])
    marks = gates(compare(viewer, [wish.scene for wish in wishes], pixels.permute(0, 3, 1, 2)))
    return {
        "cache": cache,
        "steps": drawn.steps,
        "skipped": drawn.skipped,
        "seconds": drawn.seconds,
        "times": plain.seconds / drawn.seconds,
        "psnr_db": median(alike),
        "psnr_db_p5": percentile(alike, 0.05),
        "marks": {name: value for name, value, _ in marks},
        "met": all(met for _, _, met in marks),
    }


def table(results: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| cache | steps spared | denoiser, times as fast | PSNR dB, median | 5% worst | marks | gates |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        marks = ", ".join(f"{name.partition(' >=')[0]} {value:.1%}" for name, value in one["marks"].items())
        lines.append(
            f"| {one['cache'].replace(':', ' ')} | {one['skipped']} of {one['steps']} | {one['times']:.2f} | "
            f"{one['psnr_db']:.1f} | {one['psnr_db_p5']:.1f} | {marks} | {'met' if one['met'] else 'not met'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
