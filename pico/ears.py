"""Teaches pico's ears to hear: `python -m pico.ears`, the stage after the text. Seeded, resumable.

The encoder learns with CTC (Graves et al., 2006): in its middle which sounds are made, for which eSpeak's phonemes are the
truth, and at its end which tokens are said (see `hints`). The head of the latter is the text model's own table of embeddings:
the row of a moment in which a token is heard grows like that token's embedding.
"""

from __future__ import annotations

from random import Random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from .hearing import Spectrograms, Through, groups, layers, peaks, pool_rows, smudge, stack, through_layer
from .hints import Hints, ctc
from .omni import build_ears
from .recordings import Recording, training_pool
from .speech import phonemes
from .training import Options, Run, compiled, make_optimizers, options, rate_at, split_parameters, update

STEPS = 6000
POOLS = 6
_MIDDLE = 1
"""The layer after which sounds are told."""


class Listener(nn.Module):
    """The ears with a head in their middle that tells sounds, the last class being silence, and the hints at their end."""

    def __init__(self, seed: int, embeddings: Tensor, sounds: int, through: Through = through_layer) -> None:
        """`embeddings` float32 [tokens, WIDTH], which are not learned here; `through` as `hearing.layers` takes it."""
        super().__init__()
        self.through = through
        self.ears = build_ears(seed)
        self.sounds = nn.Linear(self.ears.config.d_model, sounds + 1)
        self.hints = Hints(len(embeddings))
        self.register_buffer("embeddings", embeddings, persistent=False)

    def forward(self, heard: Spectrograms) -> tuple[Tensor, Tensor]:
        """Logarithms of probabilities of sounds, float32 [recordings, 2 * rows, sounds + 1], and the ears' rows."""
        every = layers(self.ears, heard, self.through)
        return self.sounds(every[_MIDDLE]).float().log_softmax(-1), pool_rows(self.ears, every[-1])


def losses_of(
    listener: Listener, tokenizer: Tokenizer, sounds: dict[str, int], recordings: list[Recording], rng: Random
) -> tuple[Tensor, Tensor]:
    """Mean losses per sound and per token."""
    heard = stack([smudge(rng, r.mel) for r in recordings])
    known = [[sounds[p] for p in phonemes(r.exchange.question, r.lang) if p in sounds] for r in recordings]
    tokens = [tokenizer.encode(r.words).ids for r in recordings]
    with torch.autocast("cpu", torch.bfloat16):
        made, rows = listener(heard)
        said = listener.hints.loss(rows, heard.rows, tokens, listener.embeddings)
    return ctc(made, known, heard.halves), said


def known_sounds(pool: list[Recording]) -> dict[str, int]:
    """The sounds of a pool of recordings, numbered."""
    return {
        p: i for i, p in enumerate(sorted({p for r in pool for p in phonemes(r.exchange.question, r.lang)}))
    }


@torch.inference_mode()
def transcribe(listener: Listener, tokenizer: Tokenizer, recordings: list[Recording]) -> list[str]:
    """What the ears alone hear: the likeliest class of each row, repetitions and silence taken out."""
    heard = stack([r.mel for r in recordings])
    best = listener.hints.said(listener(heard)[1], listener.embeddings).argmax(-1)
    places = peaks(best, heard.rows, len(listener.embeddings))
    return [tokenizer.decode([int(row[i]) for i in at]) for row, at in zip(best, places, strict=True)]


def train(chosen: Options) -> None:
    tokenizer = Tokenizer.from_file(str(chosen.text / "tokenizer.json"))
    embeddings = load_file(chosen.text / "model.safetensors")["model.embed_tokens.weight"].float()
    sounds = known_sounds(training_pool(chosen.work, chosen.seed, 0))
    listener = Listener(chosen.seed, embeddings, len(sounds), compiled(through_layer))
    run = Run(
        chosen.work, "ears", listener, make_optimizers(*split_parameters(listener, listener.ears.layers))
    )
    print(f"{sum(p.numel() for p in listener.ears.parameters()):,} parameters, from step {run.step}")
    losses: list[float] = []
    heard: list[float] = []
    while run.step < chosen.steps:
        pool = training_pool(chosen.work, chosen.seed, run.pool % POOLS)
        rng = Random(f"pico|{chosen.seed}|ears|{run.pool}")
        for recordings in groups(
            rng, pool, short_first=run.pool == 0
        ):  # where tokens are is learned on short ones
            if run.step >= chosen.steps:
                break
            rate = rate_at(run.step, chosen.steps)
            sound_loss, loss = losses_of(listener, tokenizer, sounds, recordings, rng)
            update(loss + sound_loss, listener.parameters(), run.optimizers, rate)
            losses.append(loss.item())
            heard.append(sound_loss.item())
            run.step += 1
            if run.step % 25 == 0:
                run.note(losses, f"sounds {sum(heard) / len(heard):.3f}")
                losses, heard = [], []
        run.pool += 1
        run.save(run.pool)
    torch.save(
        {"ears": listener.ears.state_dict(), "hints": listener.hints.state_dict()}, chosen.work / "ears.pt"
    )


def main() -> None:
    train(options("ears", "Teach pico's ears to hear.", STEPS))


if __name__ == "__main__":
    main()
