"""The toy world as a stream of conversations: which kinds there are, how often each comes, and to which split it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from . import (
    arithmetic,
    chats,
    colours,
    days,
    instructions,
    requests,
    scene_questions,
    smalltalk,
    spelling,
    unknown,
)
from .values import LANGS, Chat, Exchange, Lang, Split, split_of

Generator = Callable[[Random, Lang], Exchange]

KINDS: tuple[tuple[Generator, float], ...] = (
    (scene_questions.reading, 32), (scene_questions.unseen, 1), (scene_questions.heap, 8), (scene_questions.as_json, 2),
    (arithmetic.addition, 8), (arithmetic.subtraction, 11), (arithmetic.multiplication, 4), (arithmetic.story, 4),
    (arithmetic.comparison, 3), (arithmetic.succession, 3), (arithmetic.sequence, 3), (arithmetic.beyond, 3),
    (days.next_day, 3), (days.later_day, 3), (days.calendar_fact, 1), (colours.mixture, 1), (colours.familiar, 2),
    (spelling.letters, 9), (instructions.repeat, 3), (instructions.then, 2), (instructions.many_times, 2), (instructions.pick_word, 2),
    (smalltalk.small_talk, 7), (unknown.unknown, 8),
)  # fmt: skip
EXAMINED_ONLY: tuple[Generator, ...] = (unknown.unknown_in_new_words,)
"""Kinds that training never draws; the table shows them apart and the gate does not count them."""

_GENERATORS, _WEIGHTS = zip(*KINDS, strict=True)
SCENE_SHARE, MEMORY_SHARE, SEVERAL_SHARE = 0.25, 0.08, 0.16
DRAWN, DRAWN_LATER = 0.05, 0.25
"""The share of chats in which pico is asked to draw, and of these the share in which other things are asked, too."""


def in_split(chat: Chat, split: Split) -> bool:
    """Training takes chats all of whose combinations are in training; an examination asks last for a held-out one."""
    if split == "train":
        return all(split_of(key) == "train" for key in chat.keys)
    return split_of(chat.keys[-1]) == "heldout"


def draw(rng: Random, split: Split) -> Chat:
    """One conversation of the split, of any kind, in either language."""
    while True:
        chat = _any_chat(rng)
        if in_split(chat, split):
            return chat


def draw_kind(rng: Random, kind: Generator, lang: Lang, split: Split) -> Chat:
    """One single-turn conversation of one kind."""
    while True:
        chat = chats.conversation(rng, [exchange := kind(rng, lang)], exchange.category)
        if in_split(chat, split):
            return chat


def stream(seed: int | str, split: Split, drawn: float = DRAWN) -> Iterator[Chat]:
    """An endless stream, the same for the same seed; what is not `drawn` is the same for any share of it."""
    rng, other = Random(f"pico|{seed}|{split}"), Random(f"pico|{seed}|{split}|{requests.CATEGORY}")
    while True:
        yield asked_to_draw(other, split) if other.random() < drawn else draw(rng, split)


def asked_to_draw(rng: Random, split: Split) -> Chat:
    """One conversation of the split with a request to draw in it, most often alone."""
    lang: Lang = rng.choice(LANGS)
    while True:
        exchanges = [requests.request(rng, lang)]
        if rng.random() < DRAWN_LATER:
            exchanges += [_any_of_both(rng, lang) for _ in range(rng.choice((1, 1, 2, 3)))]
            rng.shuffle(exchanges)
        exchanges = [e for e in exchanges if not e.key.startswith(scene_questions.UNSEEN)]
        chat = chats.conversation(rng, exchanges, exchanges[-1].category)
        if in_split(chat, split):
            return chat


def _any_of_both(rng: Random, lang: Lang) -> Exchange:
    return requests.request(rng, lang) if rng.random() < 0.4 else any_exchange(rng, lang)


def any_exchange(rng: Random, lang: Lang) -> Exchange:
    return rng.choices(_GENERATORS, _WEIGHTS)[0](rng, lang)


def _any_chat(rng: Random) -> Chat:
    lang: Lang = "en" if rng.random() < 0.56 else "zh"
    shape = rng.random()
    if shape < SCENE_SHARE:
        return chats.about_a_scene(rng, lang)
    shape -= SCENE_SHARE
    if shape < MEMORY_SHARE:
        return chats.memory(rng, lang, any_exchange)
    last = any_exchange(rng, lang)
    earlier: list[Exchange] = []
    if shape < MEMORY_SHARE + SEVERAL_SHARE:
        turns = rng.choice((1, 1, 2, 2, 3, 4, 6))
        earlier = [
            any_exchange(rng, lang if rng.random() < 0.85 else rng.choice(LANGS)) for _ in range(turns)
        ]
    if earlier and last.key.startswith(
        scene_questions.UNSEEN
    ):  # an earlier turn may have told of such a thing
        return chats.conversation(rng, [last], last.category)
    earlier = [e for e in earlier if not e.key.startswith(scene_questions.UNSEEN)]
    return chats.conversation(rng, [*earlier, last], last.category)
