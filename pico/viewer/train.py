"""Trains the viewer: `python -m pico.viewer.train`. Painted pictures of the training split, sharp, blurred and grainy."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pico.painter.gallery import painted
from pico.pictures import DRAWN, Look, draw, drawn_look, random_look
from pico.requests import draw_request
from pico.scenes import Scene, scene_of
from pico.training import Losses, learn, make_optimizers, options, split_parameters
from pico.values import LANGS, Split

from .model import FOLDER, Seen, Viewer, truth

STEPS, BATCH, PICTURES = 1600, 64, 24_000
RATE = 0.3  # of the usual rates of learning
ANY_LOOK = 0.3  # of the pictures: the others are more or less like those that pico is to draw
GRAIN = 0.06
BLURRED = 0.4  # of the batches


def scenes(rng: Random, split: Split, count: int) -> list[Scene]:
    return [scene_of(draw_request(rng, rng.choice(LANGS), split).key) for _ in range(count)]


def pictures(rng: Random, chosen: list[Scene]) -> Tensor:
    """One picture of each scene in any look, uint8 [pictures, 3, DRAWN, DRAWN]."""
    pixels = np.stack([np.asarray(draw(rng, scene, _look(rng, scene))) for scene in chosen])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _look(rng: Random, scene: Scene) -> Look:
    if rng.random() < ANY_LOOK:
        return random_look(rng, scene, (DRAWN, DRAWN))
    shade = rng.randint(165, 225)
    return replace(
        drawn_look(rng), background=(shade, shade, shade), radius=rng.uniform(0.11, 0.15), jitter=rng.uniform(0, 0.035)
    )  # fmt: skip


def losses(viewer: Viewer, pixels: Tensor, right: Seen, rng: Random) -> Losses:
    chosen = torch.randint(len(pixels), (BATCH,))
    shown = pixels[chosen].float() / 127.5 - 1
    if rng.random() < BLURRED:
        shown = torch.lerp(shown, F.avg_pool2d(shown, 3, 1, 1, count_include_pad=False), rng.random())
    shown = shown + GRAIN * rng.random() * torch.randn_like(shown)
    with torch.autocast("cpu", torch.bfloat16):
        loss = viewer.loss(
            shown.contiguous(memory_format=torch.channels_last), Seen(right.colours[chosen], right.shapes[chosen])
        )  # fmt: skip
    return {"loss": loss}


def exact(viewer: Viewer, count: int) -> float:
    """Of held-out scenes, painted as pico is to draw them: the share of pictures of which everything is told."""
    rng = Random("pico|viewer|heldout")
    chosen = scenes(rng, "heldout", count)
    seen, right = viewer.see(painted(rng, chosen)), truth(chosen)
    same = (seen.colours == right.colours) & (seen.shapes == right.shapes)
    return same.all(1).float().mean().item()


def main() -> None:
    chosen = options("viewer.train", "Train the viewer of pico's pictures.", STEPS)
    rng = Random("pico|viewer")
    known = scenes(rng, "train", PICTURES)
    pixels, right = pictures(rng, known), truth(known)
    torch.manual_seed(1)
    viewer = Viewer().to(memory_format=torch.channels_last)
    optimizers = make_optimizers(*split_parameters(viewer, viewer.tell), rate=RATE)
    learn("viewer", viewer, optimizers, chosen, lambda rng: losses(viewer, pixels, right, rng))
    for folder in (FOLDER, chosen.work / "viewer"):
        viewer.save(folder)
    print(f"all told of {exact(Viewer.load(), 2000):.2%} of painted pictures")


if __name__ == "__main__":
    main()
