"""Tokens to text as they come: incremental detokenization and stop strings.

Text leaves as soon as it is final: never half a UTF-8 character, never the beginning of what may become a stop
string. The pieces of any split of the tokens, joined, are the same text. Each token costs the same, however long the
answer is.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from tutti.models.processor.tokenizer import Tokenizer
from tutti.request import SamplingParams


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text that became final; `stop` is the stop string that ended it.

    `taken` counts the tokens that belong to the answer: fewer than were pushed when a stop string came among them.
    """

    text: str
    stop: str | None = None
    taken: int = 0


class StopString:
    """Knuth-Morris-Pratt matching of one string over a text that comes in pieces.

    `matched` is the length of the longest beginning of the string that the text so far ends with.
    """

    def __init__(self, string: str) -> None:
        self.string = string
        self.matched = 0
        # fallback[n]: the longest proper beginning of string[:n] that it also ends with
        self._fallback = [0, 0]
        length = 0
        for sign in string[1:]:
            while length and sign != string[length]:
                length = self._fallback[length]
            length += sign == string[length]
            self._fallback.append(length)

    def find(self, text: str, end: int | None = None) -> int | None:
        """Goes through `text` (up to `end`): the offset behind the first full match, or None."""
        string, fallback, matched = self.string, self._fallback, self.matched
        if not matched and string[0] not in text:
            return None
        for offset, sign in enumerate(text if end is None else text[:end], 1):
            while matched and sign != string[matched]:
                matched = fallback[matched]
            matched += sign == string[matched]
            if matched == len(string):
                self.matched = 0
                return offset
        self.matched = matched
        return None


class TextStream:
    """The text of one answer. `prompt_ids` decides whether the first token opens a text and loses its space."""

    def __init__(
        self, tokenizer: Tokenizer, sampling: SamplingParams, prompt_ids: Sequence[int] = ()
    ) -> None:
        self._pieces = tokenizer.pieces
        self._skipped = tokenizer.special_ids if sampling.skip_special_tokens else frozenset[int]()
        self._ends = frozenset(sampling.stop_token_ids) | (
            frozenset() if sampling.ignore_eos else tokenizer.eos_ids
        )
        self._stops = [StopString(string) for string in sampling.stop]
        self._min_tokens = sampling.min_tokens
        self._include_stop = sampling.include_stop_str_in_output
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._opened = any(self._visible(token) for token in prompt_ids)
        self._held = ""
        self._count = 0
        self._stopped: str | None = None

    def push(self, tokens: Sequence[int]) -> TextPiece:
        """The text that `tokens` made final. After a stop string nothing more comes."""
        if self._stopped is not None:
            return TextPiece("", self._stopped)
        texts: list[str] = []
        for taken, token in enumerate(tokens, 1):
            self._count += 1
            text, stop = self._release(self._utf8.decode(self._bytes(token)))
            texts.append(text)
            if stop is not None:
                return TextPiece("".join(texts), stop, taken)
        return TextPiece("".join(texts), None, len(tokens))

    def finish(self) -> TextPiece:
        """What was held back; an incomplete character becomes U+FFFD."""
        if self._stopped is not None:
            return TextPiece("", self._stopped)
        text, stop = self._release(self._utf8.decode(b"", True))
        held, self._held = self._held, ""
        return TextPiece(text + held, stop)

    @property
    def stop(self) -> str | None:
        """The stop string that was found, if any."""
        return self._stopped

    def _visible(self, token: int) -> bool:
        return token not in self._skipped and bool(self._pieces.inner(token))

    def _bytes(self, token: int) -> bytes:
        if token in self._skipped:
            return b""
        if token in self._ends and self._count > self._min_tokens and not self._include_stop:
            return b""  # the token that ends the answer is not part of it
        if self._opened:
            return self._pieces.inner(token)
        self._opened = bool(self._pieces.inner(token))
        return self._pieces.first(token)

    def _release(self, text: str) -> tuple[str, str | None]:
        """Takes new text in, gives what is final out, and the stop string at a match.

        The match that is complete first wins (of several that end together, the longest), so that the outcome does
        not depend on how the text was split.
        """
        if not self._stops or self._count <= self._min_tokens:
            return text, None
        end: int | None = None
        found: StopString | None = None
        for stop in self._stops:
            # A later string may end at the same place; only then the longer one is taken.
            offset = stop.find(text, end)
            if offset is not None and (
                found is None or end is None or offset < end or len(stop.string) > len(found.string)
            ):
                end, found = offset, stop
        whole = self._held + text
        if found is not None and end is not None:
            self._stopped = found.string
            cut = len(self._held) + end
            self._held = ""
            return whole[: cut if self._include_stop else cut - len(found.string)], found.string
        keep = max(stop.matched for stop in self._stops)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep], None
