"""How much of a spoken answer was heard, as text, when its listener interrupted it.

Models do not tell when they say which word, so this is an estimate: a voice speaks at an even rate. Its rate is known
where the whole answer was given (its text over its seconds), else from an earlier answer of the session, else it is
that of ordinary speech. The text is cut behind the last whole word.
"""

from __future__ import annotations

import re

RATE = 15.0  # letters a second
_SYLLABLE = 3.0  # how many letters' time a character takes that is a syllable (Chinese, Japanese, Korean)
_SYLLABLES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"\s*(?:[{_SYLLABLES}]|[^\s{_SYLLABLES}]+)")


def weight(text: str) -> float:
    """How long a text takes to say, in letters."""
    syllables = len(re.findall(f"[{_SYLLABLES}]", text))
    return len(text) + (_SYLLABLE - 1) * syllables


def heard(text: str, seconds: float, whole: float | None, rate: float | None = None) -> str:
    """The beginning of `text` that was said in `seconds`.

    `whole` is how long all of it took, if all of it was given; `rate` (letters a second) how fast the voice spoke
    before.
    """
    if whole is not None:
        if seconds >= whole:
            return text
        rate = weight(text) / whole
    left = seconds * (rate or RATE)
    end = 0
    for word in _WORD.finditer(text):
        left -= weight(word[0])
        if left < 0:
            return text[:end]
        end = word.end()
    return text
