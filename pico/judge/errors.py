"""Word errors: how many words must be changed, dropped or put in to make what was heard of what was said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pico.aloud import words


def distance(said: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(heard) + 1))
    for index, word in enumerate(said):
        before, row[0] = row[0], index + 1
        for j, other in enumerate(heard):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (word != other))
    return row[-1]


def word_error(pairs: Iterable[tuple[str, str]]) -> float:
    """The share of wrong words in pairs of what was said and what was heard, both as `pico.aloud` writes them."""
    wrong = total = 0
    for said, heard in pairs:
        reference = words(said)
        wrong += distance(reference, words(heard))
        total += len(reference)
    return wrong / total if total else float("nan")
