"""Teaches pico's eyes to see: `python -m pico.eyes`, the stage after the ears. Seeded, resumable.

The encoder learns what stands in each cell of a picture. The heads are the text model's own embeddings of the colours' and the
shapes' names, which stay as they are: the row of a cell with a red circle grows like those of ` red` and ` circle`.
"""

from __future__ import annotations

from random import Random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from .gallery import NOTHING, Picture, groups, training_pictures
from .omni import WIDTH, build_eyes
from .sight import Through, see, through_block
from .training import Options, Run, compiled, make_optimizers, options, rate_at, split_parameters, update
from .words import COLOURS, SHAPES

STEPS = 1000
POOLS = 4
BATCH = 40


class Watcher(nn.Module):
    """The eyes with heads that tell the colour and the shape in each cell; the last class is nothing."""

    def __init__(self, seed: int, colours: Tensor, shapes: Tensor, through: Through = through_block) -> None:
        """`colours` and `shapes` float32 [names, WIDTH], which are not learned here; `through` as `see` takes it."""
        super().__init__()
        self.through = through
        self.eyes = build_eyes(seed)
        self.register_buffer("colours", colours, persistent=False)
        self.register_buffer("shapes", shapes, persistent=False)
        self.nothing = nn.Parameter(torch.randn(2, 1, WIDTH) * colours.std())
        self.scale = nn.Parameter(torch.tensor(0.2))

    def forward(self, pictures: list[Picture]) -> tuple[Tensor, Tensor]:
        """Scores of colours and of shapes for every cell: float32 [pictures * cells, names + 1]."""
        patches = torch.stack([p.patches for p in pictures])
        with torch.autocast("cpu", torch.bfloat16):
            rows = see(self.eyes, patches, pictures[0].grid, self.through).flatten(0, 1)
        colours, shapes = (
            rows.float() @ torch.cat([names, none]).T * self.scale
            for names, none in zip((self.colours, self.shapes), self.nothing, strict=True)
        )
        return colours, shapes


def labels(pictures: list[Picture]) -> tuple[Tensor, Tensor]:
    """The right colour and shape of every cell, int64 [pictures * cells] each."""
    cells = torch.cat([p.cells for p in pictures])
    colours = torch.where(cells == NOTHING, len(COLOURS), cells // len(SHAPES))
    shapes = torch.where(cells == NOTHING, len(SHAPES), cells % len(SHAPES))
    return colours, shapes


def train(chosen: Options) -> None:
    tokenizer = Tokenizer.from_file(str(chosen.text / "tokenizer.json"))
    table = load_file(chosen.text / "model.safetensors")["model.embed_tokens.weight"].float()
    colours, shapes = (
        torch.stack([table[tokenizer.encode(f" {name.en}").ids].mean(0) for name in names])
        for names in (COLOURS, SHAPES)
    )
    watcher = Watcher(chosen.seed, colours, shapes, compiled(through_block))
    optimizers = make_optimizers(*split_parameters(watcher, watcher.eyes.blocks))
    run = Run(chosen.work, "eyes", watcher, optimizers)
    print(f"{sum(p.numel() for p in watcher.eyes.parameters()):,} parameters, from step {run.step}")
    losses: list[float] = []
    while run.step < chosen.steps:
        pool = training_pictures(chosen.work, chosen.seed, run.pool % POOLS)
        rng = Random(f"pico|{chosen.seed}|eyes|{run.pool}")
        for pictures in groups(rng, pool, BATCH):
            if run.step >= chosen.steps:
                break
            given, right = watcher(pictures), labels(pictures)
            loss = sum((F.cross_entropy(g, r) for g, r in zip(given, right, strict=True)), torch.tensor(0.0))
            losses.append(update(loss, watcher.parameters(), run.optimizers, rate_at(run.step, chosen.steps)))
            run.step += 1
            if run.step % 25 == 0:
                seen = right[0] < len(COLOURS)
                shares = [
                    float((g.argmax(1) == r)[seen].float().mean()) for g, r in zip(given, right, strict=True)
                ]
                run.note(losses, "colour {:.3f} shape {:.3f}".format(*shares))
                losses = []
        run.pool += 1
        run.save(run.pool)
    torch.save(watcher.eyes.state_dict(), chosen.work / "eyes.pt")


def main() -> None:
    train(options("eyes", "Teach pico's eyes to see.", STEPS))


if __name__ == "__main__":
    main()
