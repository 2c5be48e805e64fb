"""Tokens to words with their times. Torch-free.

A token may be a part of a character, and a word of several tokens. In most languages a word begins with a space; where
none are written, every character stands for itself. Punctuation goes with the word that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import punctuation

from tutti.models.processor.speech import Word

WITHOUT_SPACES = frozenset(("zh", "yue", "ja", "th", "lo", "my"))
_OPENING = frozenset("\"'“¿([{-")
_CLOSING = frozenset("\"'.。,，!！?？:：”)]}、")  # fmt: skip
_PART = "\ufffd"  # what half a character decodes to


@dataclass(slots=True)
class _Unit:
    """Some text, and the places of its tokens."""

    text: str
    first: int
    last: int


def words_of(
    tokens: Sequence[int],
    begins: Sequence[float],
    decode: Callable[[Sequence[int]], str],
    language: str | None,
) -> tuple[Word, ...]:
    """The words of `tokens`; `begins` (seconds) has one time more than there are tokens: when the last one ends."""
    units = _characters(tokens, decode)
    if language not in WITHOUT_SPACES:
        units = _spaced(units)
    return tuple(
        Word(unit.text.strip(), begins[unit.first], max(begins[unit.first], begins[unit.last + 1]))
        for unit in _punctuated(units)
        if unit.text.strip()
    )


def _characters(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[_Unit]:
    """The smallest pieces of text that are whole characters."""
    units: list[_Unit] = []
    first = 0
    for last in range(len(tokens)):
        text = decode(tokens[first : last + 1])
        if _PART not in text or last == len(tokens) - 1:
            units.append(_Unit(text, first, last))
            first = last + 1
    return units


def _spaced(units: Sequence[_Unit]) -> list[_Unit]:
    """Units that continue a word joined to it."""
    words: list[_Unit] = []
    for unit in units:
        if not words or unit.text.startswith(" ") or unit.text.strip() in punctuation:
            words.append(_Unit(unit.text, unit.first, unit.last))
        else:
            words[-1].text += unit.text
            words[-1].last = unit.last
    return words


def _punctuated(units: Sequence[_Unit]) -> list[_Unit]:
    """Opening marks joined to the word behind them, closing ones to the word before them."""
    words: list[_Unit] = []
    for unit in units:
        before = words[-1] if words else None
        closes = unit.text in _CLOSING and before is not None and not before.text.endswith(" ")
        opened = before is not None and before.text.startswith(" ") and before.text.strip() in _OPENING
        if before is not None and (closes or opened):
            before.text += unit.text.lstrip() if opened else unit.text
            before.last = unit.last
        else:
            words.append(_Unit(unit.text, unit.first, unit.last))
    return words
