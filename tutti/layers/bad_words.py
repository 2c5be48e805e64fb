"""Bad words as token sequences. Imports no torch, so that any process may turn words into tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


def bad_word_sequences(
    words: Iterable[str], encode: Callable[[str], Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    """The token sequences that must not occur for `words` not to occur.

    `encode` tokenizes a text without adding special tokens. Each word counts as it stands at the start of a text
    and, where that begins with another token but is as long, as it stands after a space: the rule of vLLM
    (`SamplingParams.update_from_tokenizer`).
    """
    found: list[tuple[int, ...]] = []
    for word in words:
        bare = tuple(encode(word.lstrip()))
        spaced = tuple(encode(" " + word.lstrip()))
        if bare:
            found.append(bare)
        if spaced and (not bare or (spaced[0] != bare[0] and len(spaced) == len(bare))):
            found.append(spaced)
    return tuple(dict.fromkeys(found))
