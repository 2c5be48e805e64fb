"""Joins pico's text, ears and eyes into a thinker: `python -m pico.thinker`, the stage after the eyes. Seeded, resumable.

All three learn together: text as before, questions asked aloud, speech to write down, pictures with written and with spoken
questions. Loss on the answers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from . import gallery, hearing, prompts
from .batches import batches
from .hearing import Spectrograms, hear, smudge
from .hints import Hints
from .omni import build_thinker
from .prompts import Rows, Sequences, examples
from .recordings import Recording, medleys, picture_questions, training_pool
from .scenes import scene_of
from .sensing import about_picture, asking, dictating, pointing, showing
from .sight import Grid, see
from .tokenizer import MEDIA_TOKENS
from .training import Options, Run, make_optimizers, options, rate_at, update
from .values import Lang, Message

STEPS, RATE = 2400, 0.5
HINT_WEIGHT = 0.5
"""`RATE` scales the learning rates of the earlier stages."""
TEXT_BATCHES, ASKED_BATCHES, WRITTEN_BATCHES, SHOWN_BATCHES, POINTED_BATCHES = 170, 110, 100, 110, 30
"""Batches of a round."""
PICTURES = 28
"""Pictures of a batch."""
SOUND_POOLS, MEDLEY_POOLS, PICTURE_POOLS, POINTED_POOLS = 6, 3, 4, 2


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch: conversations and what is heard and seen in them, in their order; `words` are the tokens of what is said."""

    kind: str
    sequences: Sequences
    heard: Spectrograms | None = None
    words: list[list[int]] | None = None
    pictures: Tensor | None = None
    grid: Grid = (0, 0)


class Thinker(torch.nn.Module):
    """transformers' thinker with a forward pass for training: media of a batch together, few kernels."""

    def __init__(self, thinker: Qwen2_5OmniThinkerForConditionalGeneration, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.thinker = thinker
        self.hints = Hints(thinker.config.text_config.vocab_size)
        thinker.set_attn_implementation("eager")  # on CPU, SDPA's backward pass would take half of a step
        self.sound, self.image = (
            tokenizer.token_to_id(MEDIA_TOKENS[f"{kind}_token"]) for kind in ("audio", "image")
        )

    def forward(self, lesson: Lesson) -> Tensor:
        """Hidden states [conversations, tokens, width]."""
        return self._think(lesson, self._hear(lesson))

    def _hear(self, lesson: Lesson) -> Tensor | None:
        return None if lesson.heard is None else hear(self.thinker.audio_tower, lesson.heard)

    def _think(self, lesson: Lesson, rows: Tensor | None) -> Tensor:
        sequences = lesson.sequences
        embedded = self.thinker.model.embed_tokens(sequences.ids)
        if rows is not None and lesson.heard is not None:
            inside = torch.arange(rows.shape[1]) < lesson.heard.rows[:, None]
            embedded = _put(embedded, sequences.ids == self.sound, rows[inside])
        if lesson.pictures is not None:
            cells = see(self.thinker.visual, lesson.pictures, lesson.grid)
            embedded = _put(embedded, sequences.ids == self.image, cells.flatten(0, 1))
        model = self.thinker.model
        length = sequences.ids.shape[1]
        mask = torch.full((length, length), -1e9).triu(1)[None, None]
        turns = model.rotary_emb(embedded, sequences.positions)
        hidden = embedded
        for layer in model.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=turns)
        return model.norm(hidden)

    def loss(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Mean loss per answer token (and of the hints), and which conversations are answered exactly, bool [conversations]."""
        targets = lesson.sequences.targets.flatten()
        chosen = (targets >= 0).nonzero().flatten()
        # Filled up with positions that nothing is learned from: few shapes, as in `batches`.
        empty = (targets < 0).nonzero().flatten()
        chosen = torch.cat([chosen, empty[: -len(chosen) % 256]])
        with torch.autocast("cpu", torch.bfloat16):
            rows = self._hear(lesson)
            logits = self.thinker.lm_head(self._think(lesson, rows).flatten(0, 1)[chosen])
        right = torch.ones_like(targets, dtype=torch.bool)
        right[chosen] = (logits.argmax(-1) == targets[chosen]) | (targets[chosen] < 0)
        loss = F.cross_entropy(logits.float(), targets[chosen])
        if rows is not None and lesson.heard is not None and lesson.words is not None:
            table = self.thinker.model.embed_tokens.weight
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss + HINT_WEIGHT * self.hints.loss(rows, lesson.heard.rows, lesson.words, table)
        return loss, right.view(lesson.sequences.ids.shape).all(1)


def _put(embedded: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    return embedded.masked_scatter(places[..., None], rows.to(embedded.dtype))


class Lessons:
    """The batches of a round, of all kinds in random order; the same for the same seed and round."""

    def __init__(self, tokenizer: Tokenizer, work: Path, seed: int) -> None:
        self.tokenizer, self.work, self.seed = tokenizer, work, seed

    def round(self, number: int) -> Iterator[Lesson]:
        rng = Random(f"pico|{self.seed}|thinker|{number}")
        kinds: dict[str, tuple[Callable[[Random, int], Iterator[Lesson]], int]] = {
            "text": (self.text, TEXT_BATCHES),
            "asked": (self.asked, ASKED_BATCHES),
            "written": (self.written, WRITTEN_BATCHES),
            "shown": (self.shown, SHOWN_BATCHES),
            "pointed": (self.pointed, POINTED_BATCHES),
        }
        order = [kind for kind, (_, count) in kinds.items() for _ in range(count)]
        rng.shuffle(order)
        sources = {kind: make(Random(f"{rng.random()}|{kind}"), number) for kind, (make, _) in kinds.items()}
        for kind in order:
            yield next(sources[kind])

    def text(self, _rng: Random, number: int) -> Iterator[Lesson]:
        """Conversations of the text world that the text stage did not see."""
        pools_a_round = 4
        for _, batch in batches(self.tokenizer, self.seed + 1000, pools_a_round * number):
            positions = torch.arange(batch.ids.shape[1]).expand(3, *batch.ids.shape)
            yield Lesson("text", Sequences(batch.ids, batch.targets, positions))

    def asked(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Spoken questions."""
        while True:
            pool = [
                r for r in training_pool(self.work, self.seed, number % SOUND_POOLS) if r.exchange.category
            ]
            for recordings in hearing.groups(rng, pool):
                yield self._heard("asked", rng, recordings, [asking(r) for r in recordings])
            number += 1

    def written(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Speech to write down, half of it without sense, so that nothing can be guessed."""
        while True:
            said = training_pool(self.work, self.seed, (number + SOUND_POOLS // 2) % SOUND_POOLS)
            pool = rng.sample(said, len(said) // 2) + medleys(self.work, self.seed, number % MEDLEY_POOLS)
            for recordings in hearing.groups(rng, pool):
                yield self._heard("written", rng, recordings, [dictating(rng, r) for r in recordings])
            number += 1

    def _heard(
        self, kind: str, rng: Random, recordings: list[Recording], messages: list[tuple[Message, ...]]
    ) -> Lesson:
        heard = hearing.stack([smudge(rng, r.mel) for r in recordings])
        found = examples(self.tokenizer, messages, (Rows(int(n)) for n in heard.rows))
        return Lesson(kind, prompts.stack(found), heard, self._words(recordings))

    def _words(self, recordings: list[Recording]) -> list[list[int]]:
        return [self.tokenizer.encode(r.words).ids for r in recordings]

    def shown(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Pictures, and a few written questions about each."""
        while True:
            pool = gallery.training_pictures(self.work, self.seed, number % PICTURE_POOLS)
            for pictures in gallery.groups(rng, pool, PICTURES):
                grid = pictures[0].grid
                messages = []
                for picture in pictures:
                    lang: Lang = "zh" if rng.random() < 0.45 else "en"
                    messages.append(showing(rng, [about_picture(rng, picture.scene, lang) for _ in range(3)]))
                found = examples(self.tokenizer, messages, [Rows(cells=grid)] * len(pictures))
                yield Lesson(
                    "shown", prompts.stack(found), None, torch.stack([p.patches for p in pictures]), grid
                )
            number += 1

    def pointed(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Pictures, and a spoken question about each."""
        while True:
            pool = picture_questions(self.work, self.seed, number % POINTED_POOLS)
            for recordings in hearing.groups(rng, pool):
                pictures = [gallery.make_picture(rng, scene_of(r.exchange.key), (96, 96)) for r in recordings]
                grid = pictures[0].grid
                heard = hearing.stack([smudge(rng, r.mel) for r in recordings])
                messages = [pointing(rng, r) for r in recordings]
                found = examples(self.tokenizer, messages, (Rows(int(n), grid) for n in heard.rows))
                patches = torch.stack([p.patches for p in pictures])
                yield Lesson("pointed", prompts.stack(found), heard, self._words(recordings), patches, grid)
            number += 1


def optimizers_of(model: Thinker, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of all layers of all three and of what makes rows, AdamW for the rest."""
    thinker = model.thinker
    ears, eyes = thinker.audio_tower, thinker.visual
    parts = (thinker.model.layers, ears.layers, ears.proj, eyes.blocks, eyes.merger)
    matrices = [p for part in parts for p in part.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    return make_optimizers(matrices, [p for p in model.parameters() if id(p) not in known], rate)


def begin(chosen: Options, tokenizer: Tokenizer) -> Thinker:
    """A thinker of the text model, the ears and the eyes as their stages left them."""
    thinker = build_thinker(tokenizer, load_file(chosen.text / "model.safetensors"))
    model = Thinker(thinker, tokenizer)
    ears, eyes = thinker.audio_tower, thinker.visual
    heard_before = torch.load(chosen.work / "ears.pt", weights_only=True)
    ears.load_state_dict(heard_before["ears"])
    model.hints.load_state_dict(heard_before["hints"])
    eyes.load_state_dict(torch.load(chosen.work / "eyes.pt", weights_only=True))
    heard = hearing.stack([r.mel for r in training_pool(chosen.work, chosen.seed, 0)[:16]])
    picture = gallery.training_pictures(chosen.work, chosen.seed, 0)[0]
    length = thinker.model.embed_tokens.weight.norm(dim=1).mean()
    with torch.no_grad():
        factor = length / hear(ears, heard).norm(dim=-1).mean()
        _scale(ears.proj, factor)
        model.hints.scale.div_(factor)
        model.hints.before.weight.div_(factor)
        _scale(
            eyes.merger.mlp[-1], length / see(eyes, picture.patches[None], picture.grid).norm(dim=-1).mean()
        )
    return model


def _scale(last: torch.nn.Linear, factor: Tensor) -> None:
    """What is heard and seen begins as long as an embedding: longer rows would drown what the layers add to them."""
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    print(f"rows scaled by {factor:.3f}", flush=True)


def train(chosen: Options) -> None:
    tokenizer = Tokenizer.from_file(str(chosen.text / "tokenizer.json"))
    model = begin(chosen, tokenizer)
    run = Run(chosen.work, "thinker", model, optimizers_of(model, RATE))
    lessons = Lessons(tokenizer, chosen.work, chosen.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, from step {run.step}")
    marks: dict[str, list[float]] = {}
    losses: list[float] = []
    while run.step < chosen.steps:
        for lesson in lessons.round(run.pool):
            if run.step >= chosen.steps:
                break
            loss, right = model.loss(lesson)
            losses.append(update(loss, model.parameters(), run.optimizers, rate_at(run.step, chosen.steps)))
            marks.setdefault(lesson.kind, []).append(float(right.float().mean()))
            run.step += 1
            if run.step % 25 == 0:
                run.note(
                    losses, "  ".join(f"{kind} {sum(m) / len(m):.2f}" for kind, m in sorted(marks.items()))
                )
                losses, marks = [], {}
        run.pool += 1
        run.save(run.pool)
    torch.save(model.thinker.state_dict(), chosen.work / "thinker.pt")


def main() -> None:
    train(options("thinker", "Join pico's text, ears and eyes.", STEPS))


if __name__ == "__main__":
    main()
