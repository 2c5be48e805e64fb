"""Text into sentences while it is written, so that each can be said as soon as it is finished. English and Chinese.

"Dr. Li paid 3.50 euros. Then she "       ->  "Dr. Li paid 3.50 euros."
"你好！今天"                               ->  "你好！"
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CLOSERS = "\"'”’」』）)]》】*_`"
_WIDE_MARKS, _MARKS = "。！？；", ".!?…"
_C, _M = re.escape(_CLOSERS), re.escape(_WIDE_MARKS + _MARKS)
# The end of a sentence: marks and what closes after them; those of the Latin script end one only before space.
_END = re.compile(rf"[{_M}]*[{_WIDE_MARKS}][{_M}]*[{_C}]*(?=[^{_M}{_C}])|[{_MARKS}]+[{_C}]*(?=\s)|\n")
_CLAUSE = re.compile(r"[,;:—–](?=\s)|[，、：—]")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“.])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|Fig|approx)\.$",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?:^|\n)\s*\d{1,3}\.$")  # of a list
_LONG = 200  # letters of a sentence after which a clause is said by itself; a wide character counts three
_LONGEST = 400  # after which the words so far are
_MARKDOWN = re.compile(r"^\s*(?:#{1,6}|>|[-*+•])\s+|[*_`~]+|\[([^\]]*)\]\([^)]*\)", re.MULTILINE)


class Sentences:
    """The text of one answer, piece by piece. What `push` and `finish` give, joined, is what was pushed."""

    def __init__(self) -> None:
        self._text = ""

    def push(self, text: str) -> list[str]:
        """The sentences that `text` finishes."""
        self._text += text
        return list(self._take())

    def finish(self) -> list[str]:
        """The rest, when nothing more comes."""
        rest, self._text = self._text, ""
        return [rest] if rest else []

    def _take(self) -> Iterator[str]:
        while (end := self._end()) is not None:
            sentence, self._text = self._text[:end], self._text[end:]
            yield sentence

    def _end(self) -> int | None:
        """Where the first sentence ends; None where that is not to be seen yet."""
        for match in _END.finditer(self._text):
            before = self._text[: match.end()]
            if any(map(str.isalnum, before)) and not (
                _ABBREVIATION.search(before) or _ORDINAL.search(before)
            ):
                return self._cut(match.end()) or match.end()
        return self._cut(len(self._text))

    def _cut(self, end: int) -> int | None:
        """Where what comes before `end` is cut if it is long: behind its first clause, else behind its last word."""
        weight = _weight(self._text[:end])
        if weight <= _LONG:
            return None
        clauses = (match.end() for match in _CLAUSE.finditer(self._text, 0, end))
        first = next((place for place in clauses if _weight(self._text[:place]) > _LONG // 4), None)
        if first is not None or weight <= _LONGEST:
            return first
        most = next(place for place in range(end) if _weight(self._text[: place + 1]) > _LONGEST)
        return self._text.rfind(" ", 0, most) + 1 or most


def speakable(sentence: str) -> str:
    """`sentence` without the marks of Markdown, which nobody says; empty where there is nothing to say."""
    text = " ".join(_MARKDOWN.sub(lambda match: match[1] or "", sentence).split())
    return text if any(map(str.isalnum, text)) else ""


def seconds_of(sentence: str) -> float:
    """About how long it takes to say it: 14 letters a second, a wide character for three."""
    return _weight(sentence) / 14


def _weight(text: str) -> int:
    return len(text) + 2 * len(_WIDE.findall(text))
