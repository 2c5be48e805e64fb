"""Trains the judge: `python -m pico.judge.train`. Answers of the toy world and shuffled words, in many voices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from pico import speech, stage
from pico.aloud import language, spoken, words
from pico.values import Lang, Split
from pico.world import stream

from .errors import word_error
from .model import FOLDER, PER_STEP, STRIDE, Judge

STEPS, BATCH, SENTENCES = 3000, 24, 9000
SHUFFLED = 0.3  # of the sentences: their words in another order, so that the ear decides and not the habit
LONGEST_SECONDS = 7
RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound float32 [samples] at 16 kHz and the indices of its letters."""

    sound: Tensor
    target: Tensor


def sentences(seed: str, split: Split, count: int) -> list[tuple[str, Lang]]:
    """What pico would say, as `aloud.spoken` writes it, every sentence once."""
    found: dict[str, Lang] = {}
    for chat in stream(seed, split):
        lang = language(chat.answer, chat.lang)
        found[spoken(chat.answer, lang)] = lang
        if len(found) == count:
            return list(found.items())
    raise AssertionError("the stream has no end")


def letters_of(said: str) -> str:
    """The sentence as the judge writes it: Latin words apart from each other, Chinese characters together."""
    line = ""
    for word in words(said):
        line += (" " if line and word.isascii() and line[-1].isascii() else "") + word
    return line


def shuffled(rng: Random, said: str) -> str:
    parts = words(said)
    rng.shuffle(parts)
    return letters_of(" ".join(parts))


def examples(letters: str) -> list[Heard]:
    rng = Random("pico|judge")
    made: list[Heard] = []
    for said, lang in sentences("judge", "train", SENTENCES):
        text = shuffled(rng, said) if rng.random() < SHUFFLED else said
        sound = speech.disturb(rng, speech.say(text, speech.random_speaker(rng, lang)))
        target = torch.tensor([letters.index(letter) + 1 for letter in letters_of(text)])
        if len(sound) < LONGEST_SECONDS * speech.HEARD_RATE:
            made.append(Heard(torch.from_numpy(sound), target))
    return sorted(made, key=lambda one: len(one.sound))


def losses(judge: Judge, data: list[Heard], rng: Random) -> stage.Losses:
    """CTC on sounds of about the same length."""
    start = rng.randrange(len(data) - BATCH)
    chosen = data[start : start + BATCH]
    told, steps = judge([one.sound for one in chosen])
    targets = [one.target for one in chosen]
    lengths = torch.tensor([len(target) for target in targets])
    loss = F.ctc_loss(told.transpose(0, 1), torch.cat(targets), steps, lengths, zero_infinity=True)
    return {"loss": loss}


def original_error(judge: Judge, count: int) -> float:
    """The word error on eSpeak's own reading of held-out answers by pico's voice."""
    pairs = [
        (said, judge.hear(speech.say(said, speech.OUTPUT[lang])))
        for said, lang in islice(sentences("judge", "heldout", count), count)
    ]
    for said, heard in pairs:
        if words(said) != words(heard):
            print(f"    {said} | {heard}")
    return word_error(pairs)


def main() -> None:
    chosen = stage.options("Train the judge of pico's speech.", STEPS)
    letters = " " + "".join(sorted({letter for said, _ in sentences("letters", "train", 8000) for letter in said} - set(" ,.")))
    data = examples(letters)
    print(f"{len(data)} sentences, {sum(len(one.sound) for one in data) / speech.HEARD_RATE / 60:.0f} minutes", flush=True)
    torch.manual_seed(0)
    judge = Judge(letters)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE)
    stage.train("judge", judge, [optimizer], chosen, lambda rng: losses(judge, data, rng))
    judge.save(FOLDER)
    print(f"word error on original speech {original_error(Judge.load(), 300):.2%}")


if __name__ == "__main__":
    main()
