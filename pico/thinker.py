"""Joins pico's text, ears and eyes into a thinker: `python -m pico.thinker`, the stage after the eyes. Seeded, resumable.

All three learn together, from `lessons`: text as before, questions asked aloud, speech to write down, pictures with written
and with spoken questions. Loss on the answers alone, and the hints on what the ears make.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from . import decoder, gallery, hearing, sight
from .hearing import Spectrograms, hear
from .hints import Hints
from .lessons import QUIET, Lesson, Lessons
from .omni import LOUDER, WIDTH, build_thinker, make_embeddings_louder
from .recordings import training_pool
from .sight import see
from .tokenizer import MEDIA_TOKENS
from .training import Options, Run, compiled, make_optimizers, options, rate_at, update

STEPS, RATE = 7000, 0.5
"""`RATE` scales the learning rates of the earlier stages."""
HINT_WEIGHT, MOCK_NOISE = 0.5, 0.05


class Thinker(torch.nn.Module):
    """transformers' thinker with a forward pass for training: media of a batch together, few kernels."""

    def __init__(
        self,
        thinker: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: Tokenizer,
        compiles: bool = False,
    ) -> None:
        """`compiles`: whether its layers are compiled, which pays when there are many lessons."""
        super().__init__()
        self.thinker = thinker
        self.through_decoder = compiled(decoder.through_layer, compiles)
        self.through_ears = compiled(hearing.through_layer, compiles)
        self.through_eyes = compiled(sight.through_block, compiles)
        self.hints = Hints(thinker.config.text_config.vocab_size)
        self.quiet = torch.nn.Buffer(torch.zeros(WIDTH))
        self.sound, self.image = (
            tokenizer.token_to_id(MEDIA_TOKENS[f"{kind}_token"]) for kind in ("audio", "image")
        )

    def forward(self, lesson: Lesson) -> Tensor:
        """Hidden states [conversations, tokens, width]."""
        return decoder.normed(self._think(lesson, self._hear(lesson)), self.thinker.model.norm)

    def _hear(self, lesson: Lesson) -> Tensor | None:
        if lesson.mock is not None:
            tokens = pad_sequence(
                [torch.tensor(one) for one in lesson.mock], batch_first=True, padding_value=QUIET
            )
            embedded = self.thinker.model.embed_tokens(tokens.clamp(min=0)).detach()
            rows = torch.where((tokens == QUIET)[..., None], self.quiet, embedded)
            return rows + MOCK_NOISE * torch.randn_like(rows)
        return (
            None if lesson.heard is None else hear(self.thinker.audio_tower, lesson.heard, self.through_ears)
        )

    def _think(self, lesson: Lesson, rows: Tensor | None) -> Tensor:
        """Hidden states before the last norm."""
        sequences = lesson.sequences
        embedded = self.thinker.model.embed_tokens(sequences.ids)
        moments = lesson.moments
        if rows is not None and moments is not None:
            inside = torch.arange(rows.shape[1]) < moments[:, None]
            embedded = _put(embedded, sequences.ids == self.sound, rows[inside])
        if lesson.pictures is not None:
            cells = see(self.thinker.visual, lesson.pictures, lesson.grid, self.through_eyes)
            embedded = _put(embedded, sequences.ids == self.image, cells.flatten(0, 1))
        through = self.through_decoder
        return decoder.through_layers(self.thinker.model, embedded, sequences.positions, through)[0][-1]

    def loss(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Mean loss per answer token (and of the hints), and which conversations are answered exactly, bool [conversations]."""
        targets = lesson.sequences.targets.flatten()
        chosen = (targets >= 0).nonzero().flatten()
        # Filled up with positions that nothing is learned from: few shapes, as in `batches`.
        empty = (targets < 0).nonzero().flatten()
        chosen = torch.cat([chosen, empty[: -len(chosen) % 256]])
        with torch.autocast("cpu", torch.bfloat16):
            rows = self._hear(lesson)
            hidden = self._think(lesson, rows).flatten(0, 1)[chosen]
            logits = self.thinker.lm_head(decoder.normed(hidden, self.thinker.model.norm))
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
    model = Thinker(thinker, tokenizer, compiles=True)
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
        model.quiet.copy_(_quiet_row(model, heard))
        _scale(
            eyes.merger.mlp[-1], length / see(eyes, picture.patches[None], picture.grid).norm(dim=-1).mean()
        )
    return model


def _quiet_row(model: Thinker, heard: Spectrograms) -> Tensor:
    """The mean row of moments in which nothing is heard, [width]."""
    rows = hear(model.thinker.audio_tower, heard)
    scores = model.hints.said(rows, model.thinker.model.embed_tokens.weight)
    quiet = scores.argmax(-1) == scores.shape[2] - 1
    return rows[quiet & (torch.arange(rows.shape[1]) < heard.rows[:, None])].mean(0)


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
    make_embeddings_louder(model.thinker, LOUDER)
    torch.save(model.thinker.state_dict(), chosen.work / "thinker.pt")


def main() -> None:
    train(options("thinker", "Join pico's text, ears and eyes.", STEPS))


if __name__ == "__main__":
    main()
