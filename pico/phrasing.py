"""Many ways to say the same thing: a pattern of alternatives becomes one sentence, as people would type it.

A pattern holds alternatives in parentheses, `(what is|what's) {a} plus {b}(?|)`, which may nest, and slots in braces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import TypeVar

from .values import Lang

T = TypeVar("T")

_INNERMOST = re.compile(r"\(([^()]*)\)")
_ENGLISH_OPENINGS = (
    "please tell me, ", "tell me, ", "pico, ", "hey pico, ", "can you tell me, ", "question: ", "hi pico, ", "ok, ",
    "please, ", "so, ", "now, ", "and ", "i have a question: ", "dear pico, ", "do you know, ",
)  # fmt: skip
_CHINESE_OPENINGS = (
    "请问,",
    "请问",
    "请告诉我,",
    "pico,",
    "告诉我,",
    "你好,",
    "那么,",
    "问题:",
    "我想知道,",
    "你知道吗,",
)


def expand(rng: Random, pattern: str) -> str:
    """Chooses one alternative of every parenthesis, innermost first."""
    while match := _INNERMOST.search(pattern):
        chosen = rng.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + chosen + pattern[match.end() :]
    return pattern


def phrase(rng: Random, patterns: Sequence[str], **slots: object) -> str:
    """One of the patterns, expanded and filled, without any further change."""
    return expand(rng, rng.choice(patterns)).format(**slots)


def ask(rng: Random, lang: Lang, patterns: Sequence[str], **slots: object) -> str:
    """One of the patterns as somebody might type it: with or without an opening, capitals and final mark."""
    text = phrase(rng, patterns, **slots)
    return _typed_chinese(rng, text) if lang == "zh" else _typed_english(rng, text)


def _typed_english(rng: Random, text: str) -> str:
    if rng.random() < 0.12:
        text = rng.choice(_ENGLISH_OPENINGS) + text
    if rng.random() < 0.22:
        text = text.rstrip("?.!")
    if rng.random() < 0.6:
        text = capital(text)
    return text


def _typed_chinese(rng: Random, text: str) -> str:
    if rng.random() < 0.12:
        text = rng.choice(_CHINESE_OPENINGS) + text
    if rng.random() < 0.22:
        text = text.rstrip("?。!")
    if rng.random() < 0.25:
        text = text.replace(",", ",").replace("?", "?").replace("!", "!").replace(":", ":")
    return text


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listing(items: Sequence[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + last + items[-1]
