"""Trains the judge: `python -m pico.judge.train`. Answers of the toy world and shuffled words, in many voices.

Beside CTC, which must find out when each word is said, the judge is told: eSpeak knows. So it learns from the first step.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from random import Random
from string import ascii_uppercase

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pico import speech
from pico.aloud import joined, language, places, spoken, words
from pico.training import Losses, compiled, learn, make_optimizers, options, split_parameters
from pico.values import Lang, Split
from pico.words import NAMES_EN, SPELLED
from pico.world import stream

from .errors import word_error
from .model import FOLDER, HOP, RATE, SILENCE, STRIDE, Block, Judge

STEPS, BATCH, SENTENCES = 8000, 24, 14_000
SHUFFLED, ANY_WORDS = 0.3, 0.25  # of the sentences
AGAIN = 0.25  # of any words: the one before comes once more
AS_PICO = 0.2  # of the sentences are read by the voice that pico's is made after
OFTEN = 12  # times that the same sentence is heard, each time from somebody else
LONGEST_SECONDS = 7
NOISES = (0.0, 0.0002, 0.0005, 0.001, 0.003, 0.01)
ECHOES = 31  # samples
KNOWS = 1.5  # CTC's loss for a word when a judge knows most of them


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound float32 [samples] at 16 kHz, the indices of its words, and for every step the index of the word that is
    being said."""

    sound: Tensor
    target: Tensor
    now: Tensor


def sentences(seed: str, split: Split, count: int, often: int = 1) -> list[tuple[str, Lang]]:
    """What pico would say, as `pico.aloud` writes it, every sentence at most `often`."""
    found: list[tuple[str, Lang]] = []
    seen: Counter[str] = Counter()
    for chat in stream(seed, split):
        lang = language(chat.answer, chat.lang)
        sentence = spoken(chat.answer, lang)
        seen[sentence] += 1
        if seen[sentence] <= often:
            found.append((sentence, lang))
        if len(found) == count:
            return found
    raise AssertionError("the stream has no end")


def vocabulary() -> list[str]:
    """The words of the world: what answers have in common (an invented word comes but once), spelled words and names."""
    said = Counter(
        word for sentence, _ in sentences("words", "train", 24_000, OFTEN) for word in words(sentence)
    )
    named = [word.lower() for word in (*NAMES_EN, *SPELLED)]
    return sorted({*(word for word, count in said.items() if count > 3), *named, *ascii_uppercase})


def examples(known: list[str]) -> list[Heard]:
    rng = Random("pico|judge")
    indices = {word: index + 1 for index, word in enumerate(known)}
    made: list[Heard] = []
    for sentence, lang in sentences("judge", "train", SENTENCES, OFTEN):
        said = _varied(rng, sentence, lang, known)
        told = words(said)
        speaker = speech.OUTPUT[lang] if rng.random() < AS_PICO else speech.random_speaker(rng, lang)
        reading = speech.read(said, speaker, speech.HEARD_RATE)
        if all(word in indices for word in told) and reading.seconds < LONGEST_SECONDS:
            target = torch.tensor([indices[word] for word in told])
            made.append(Heard(torch.from_numpy(reading.sound), target, _now(reading, target)))
    return sorted(made, key=lambda one: len(one.sound))


def _now(reading: speech.Reading, target: Tensor) -> Tensor:
    """The word of every step; a word that comes again at once begins with silence, or CTC would hear it once."""
    begins = torch.from_numpy(reading.when(places(reading.text)) * RATE / (HOP * STRIDE)).long()
    steps = -(-(len(reading.sound) // HOP + 1) // STRIDE)
    word = torch.searchsorted(begins, torch.arange(steps), right=True)
    again = begins[1:][target[1:] == target[:-1]].clamp(max=steps - 1)
    return torch.cat([torch.tensor([SILENCE]), target])[word].index_fill(0, again, SILENCE)


def _varied(rng: Random, sentence: str, lang: Lang, known: list[str]) -> str:
    """The sentence, or its words in another order, or any words: so that the ear decides and not the habit."""
    share = rng.random()
    if share < ANY_WORDS:
        of_language = [word for word in known if word.isascii() == (lang == "en")]
        any_words = rng.choices(of_language, k=rng.randint(1, 8))
        for place in range(1, len(any_words)):
            if rng.random() < AGAIN:
                any_words[place] = any_words[place - 1]
        return joined(any_words)
    if share < ANY_WORDS + SHUFFLED:
        parts = words(sentence)
        rng.shuffle(parts)
        return joined(parts)
    return sentence


def losses(judge: Judge, data: list[Heard], rng: Random) -> Losses:
    """On sounds of about the same length, disturbed."""
    start = rng.randrange(len(data) - BATCH)
    chosen = [_disturbed(rng, one) for one in data[start : start + BATCH]]
    with torch.autocast("cpu", torch.bfloat16):
        told, steps = judge([one.sound for one in chosen])
    now = pad_sequence([one.now for one in chosen], batch_first=True, padding_value=-100)
    timed = F.nll_loss(told.flatten(0, 1), now.flatten())
    targets = [one.target for one in chosen]
    lengths = torch.tensor([len(target) for target in targets])
    heard = F.ctc_loss(told.transpose(0, 1), torch.cat(targets), steps, lengths, zero_infinity=True)
    # From CTC alone an untaught judge learns to be silent; one that knows most words learns to say each of them once.
    knows = heard.item() < KNOWS
    return {"loss": heard + 0.1 * timed if knows else timed, "timed": timed, "heard": heard}


def _disturbed(rng: Random, heard: Heard) -> Heard:
    """In another room: silence around it, other colours of sound, a hum, and noise."""
    before, after = rng.randint(0, 6), rng.randint(0, 6)  # steps
    sound = F.pad(heard.sound, (before * STRIDE * HOP, after * STRIDE * HOP))
    room = 0.25 * torch.randn(ECHOES) * torch.hann_window(ECHOES)
    room[ECHOES // 2] = 1
    sound = F.conv1d(sound[None, None], room[None, None], padding=ECHOES // 2)[0, 0]
    time = torch.arange(len(sound)) / RATE
    for _ in range(rng.randint(0, 3)):
        sound = sound + rng.choice(NOISES) * torch.sin(2 * math.pi * rng.uniform(50, 7500) * time)
    sound = sound + rng.choice(NOISES) * torch.randn_like(sound)
    now = F.pad(heard.now, (before, after), value=SILENCE)
    steps = -(-(len(sound) // HOP + 1) // STRIDE)
    return Heard(sound, heard.target, F.pad(now, (0, steps - len(now)), value=SILENCE))


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
    chosen = options("judge.train", "Train the judge of pico's speech.", STEPS)
    known = vocabulary()
    data = examples(known)
    minutes = sum(len(one.sound) for one in data) / speech.HEARD_RATE / 60
    print(f"{len(known)} words, {len(data)} sentences, {minutes:.0f} minutes", flush=True)
    torch.manual_seed(0)
    judge = Judge(known, compiled(Block.forward))
    optimizers = make_optimizers(*split_parameters(judge, judge.blocks))
    learn("judge", judge, optimizers, chosen, lambda rng: losses(judge, data, rng))
    for folder in (FOLDER, chosen.work / "judge"):
        judge.save(folder)
    print(f"word error on original speech {original_error(Judge.load(), 300):.2%}")


if __name__ == "__main__":
    main()
