"""Batches for the talker: lessons filled up to one length, in some of which it hears itself slip."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from .lessons import LONGEST_PROMPT

WHOLE_PROMPTS = 0.2  # of the batches
LONGEST_SLIP, MOST_APART = 16, 60  # codes
STUMBLES, BABBLES = 0.2, 0.2  # of the lessons with slips
SHAPES = 64  # places: a batch's length is a multiple of it


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows of the prompt [tokens, width] and of the reply [tokens, width], the reply's ids int64 [tokens], codes int64
    [codes], and for every code the token of the reply that is being said, int64 [codes]."""

    prompt: Tensor
    reply: Tensor
    ids: Tensor
    codes: Tensor
    saying: Tensor


@dataclass(frozen=True, slots=True)
class Marks:
    """Rows [width] around the reply: the text begins, has ended, and nothing more comes."""

    begin: Tensor
    end: Tensor
    silence: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """`rows` float32 [lessons, length, width]; `codes` int64 [lessons, length], the code that goes in with each row, -1:
    none; `targets` [lessons, length], the code that comes out, -100: not learned; `heed`, the place to look at, or -1;
    `saying`, the id of the token that stands there, or -100."""

    rows: Tensor
    codes: Tensor
    targets: Tensor
    heed: Tensor
    saying: Tensor


def batch(
    rng: Random,
    chosen: list[Lesson],
    marks: Marks,
    special: tuple[int, int, int],
    slips: float = 0.0,
    places: int | None = None,
) -> Batch:
    """`special`: the codes that pad, begin and end speech; `slips`: the share of the lessons in which the talker hears
    itself say something else now and then; `places`: about how many the batch has, lessons that are too many left out
    and empty ones added, so that few shapes occur (oneDNN makes and keeps code for each one)."""
    pad, begin, end = special
    # Speech needs few rows of the prompt; so that it bears many, it is told all of them now and then.
    kept = LONGEST_PROMPT if rng.random() < WHOLE_PROMPTS else rng.randint(2, 20)
    built = []
    for one in chosen:
        prompt = one.prompt[-kept:].float()
        told = Telling(one.codes, one.codes, one.saying)
        if rng.random() < slips:
            told = slipped(rng, one, rng.choice(chosen).codes, end)
        count = len(told.heard) + 1
        extra = max(count - len(one.reply) - 1, 0)
        following = torch.cat([one.reply.float(), marks.end[None], marks.silence[None].expand(extra, -1)])[
            :count
        ]
        rows = torch.cat([prompt, marks.begin[None], following])
        codes = torch.full((len(rows),), -1)
        codes[len(prompt) :] = torch.cat([torch.tensor([pad, begin]), told.heard])
        targets = torch.full((len(rows),), -100)
        targets[len(prompt) + 1 :] = torch.cat([told.said, torch.tensor([end])])
        heed = torch.full((len(rows),), -1)
        first = len(prompt) + 1
        looked = torch.minimum(told.saying, torch.arange(len(told.saying)))
        heed[first : first + len(looked)] = looked + first
        saying = torch.full((len(rows),), -100)
        saying[first : first + len(looked)] = one.ids[looked]
        built.append((rows, codes, targets, heed, saying))
    length = -(-max(len(one[0]) for one in built) // SHAPES) * SHAPES
    fillers = (0, -1, -100, -1, -100)
    parts = [
        torch.stack([_padded(one[index], length, filler) for one in built])
        for index, filler in enumerate(fillers)
    ]
    if places is not None:
        count = max(1, places // length)
        parts = [_padded(part[:count], count, filler) for part, filler in zip(parts, fillers, strict=True)]
    return Batch(*parts)


@dataclass(frozen=True, slots=True)
class Telling:
    """How an answer goes: the codes that the talker hears itself say int64 [codes], those that it should say there
    [codes], and the token of the reply that is being said [at most codes: none behind its end]."""

    heard: Tensor
    said: Tensor
    saying: Tensor


def slipped(rng: Random, lesson: Lesson, others: Tensor, end: int) -> Telling:
    """An answer in which the talker hears itself say something else now and then, so that what comes next stands in the
    text alone: words in the place of words; now and then its last ones once more, after which it goes on where it was;
    or something behind the end, where all that it should say is `end`."""
    told = Telling(_instead(rng, lesson.codes, others), lesson.codes, lesson.saying)
    if rng.random() < STUMBLES:
        told = _stumbled(rng, told)
    if rng.random() < BABBLES:
        more = _span(rng, others)
        told = Telling(
            torch.cat([told.heard, more]), torch.cat([told.said, more.new_full(more.shape, end)]), told.saying
        )
    return told


def _instead(rng: Random, codes: Tensor, others: Tensor) -> Tensor:
    """The codes with spans of others in the place of some of them, up to a word long."""
    heard = codes.clone()
    at = rng.randrange(MOST_APART)
    while at < len(heard):
        span = _span(rng, others)[: len(heard) - at]
        heard[at : at + len(span)] = span
        at += len(span) + rng.randint(1, MOST_APART)
    return heard


def _stumbled(rng: Random, told: Telling) -> Telling:
    """As it was told, but for a place where it says its last codes once more, while the next one waits to be said."""
    at = rng.randint(1, len(told.said) - 1)
    more = told.heard[max(at - rng.randint(1, LONGEST_SLIP), 0) : at]
    code, token = torch.full_like(more, int(told.said[at])), torch.full_like(more, int(told.saying[at]))
    return Telling(
        torch.cat([told.heard[:at], more, told.heard[at:]]),
        torch.cat([told.said[:at], code, told.said[at:]]),
        torch.cat([told.saying[:at], token, told.saying[at:]]),
    )


def _span(rng: Random, codes: Tensor) -> Tensor:
    """Up to a word's length of codes."""
    begin = rng.randrange(len(codes))
    return codes[begin : begin + rng.randint(1, LONGEST_SLIP)]


def _padded(x: Tensor, length: int, filler: int) -> Tensor:
    full = torch.full((length, *x.shape[1:]), filler, dtype=x.dtype)
    full[: len(x)] = x
    return full
