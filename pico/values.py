"""The values of the toy world: one exchange, one chat, and which split each belongs to.

A *key* names the combination that a prompt asks about (a scene, a pair of numbers, or the words of the prompt). Its
hash decides the split, so that a held-out combination is never seen in training, in no phrasing and no conversation.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

Lang = Literal["en", "zh"]
Split = Literal["train", "heldout"]
Role = Literal["system", "user", "assistant"]

LANGS: tuple[Lang, ...] = ("en", "zh")
HELDOUT_PERCENT = 10
_NOT_A_LETTER = re.compile(r"[\W_]+")
PINNED = ""
"""The key of an exchange that always belongs to training (greetings that every user types)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its only right answer."""

    category: str
    lang: Lang
    key: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A whole conversation; its last message is the answer that an examination compares."""

    category: str
    lang: Lang
    keys: tuple[str, ...]
    messages: tuple[Message, ...]

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]


def split_of(key: str) -> Split:
    """The split of a combination: a fixed hash, independent of any seed."""
    if key == PINNED:
        return "train"
    digest = hashlib.blake2b(key.encode(), digest_size=4, person=b"pico-1").digest()
    return "heldout" if int.from_bytes(digest, "big") % 100 < HELDOUT_PERCENT else "train"


def plain(text: str) -> str:
    """The text without case, spaces and punctuation, unless it is nothing else."""
    return _NOT_A_LETTER.sub("", text.lower()) or text


def text_key(category: str, question: str) -> str:
    """The key of a prompt whose words are the combination."""
    return f"{category}|{plain(question)}"
