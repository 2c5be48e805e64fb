"""What is said when an answer is read aloud: numbers, signs and spelled letters as words, and the words to be heard.

A letter that is named (`b-l-i-c-k`, the letter v) is a capital, `B`; every other letter is small. Chinese is compared
character by character, English word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .values import Lang
from .words import NUMBERS_EN, NUMBERS_ZH

_HAN = r"[\u4e00-\u9fff]"
_LATIN = re.compile(r"[A-Za-z]")
_WORD = re.compile(rf"{_HAN}|[A-Za-z]+")
_PIECE = re.compile(
    r"(?P<mark><\|[^|]*\|>)|(?P<letters>(?<![A-Za-z])(?:[A-Za-z](?:-[A-Za-z])+(?![A-Za-z-])|[A-Z]{2,}(?![A-Za-z])"
    r"|(?<=字母是)[a-z](?![a-z])|(?<= is )[a-z](?=\.$)))"
    rf"|(?P<word>[A-Za-z]+)|(?P<han>{_HAN})|(?P<number>\d+)|(?P<pause>[,:、，：])|(?P<stop>[.!?。！？])"
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
Piece = tuple[int, str]
"""Where in the text something stands, and how it is said: a word, a named letter, a Chinese character or a mark."""


def language(text: str, otherwise: Lang) -> Lang:
    """The language in which the text is read; `otherwise` if it has no letters at all."""
    if re.search(_HAN, text):
        return "zh"
    return "en" if _LATIN.search(text) else otherwise


def pieces(text: str, lang: Lang) -> Iterator[Piece]:
    """The text in the order in which it is said."""
    for found in _PIECE.finditer(text):
        at, what = found.start(), found[0]
        match found.lastgroup:
            case "mark":
                pass  # a special token is not said
            case "letters":
                yield from ((at + i, letter.upper()) for i, letter in enumerate(what) if letter != "-")
            case "number":
                named = number(what, lang)
                # Each word of the number stands at one of its digits, in order.
                yield from ((at + i * len(what) // len(named), word) for i, word in enumerate(named))
            case "pause":
                yield at, ","
            case "stop":
                yield at, "."
            case _:
                yield at, what if len(what) == 1 and what != "A" else what.lower()


def spoken(text: str, lang: Lang) -> str:
    """The text as it is said in `lang`: words, letters, commas and full stops."""
    return joined(piece for _, piece in pieces(text, lang))


def joined(parts: Iterable[str]) -> str:
    """Pieces in a row: Latin words apart, Chinese characters together, marks behind what they follow."""
    line = ""
    for part in parts:
        apart = line and part not in ",." and (line[-1] in ",." or (part.isascii() and line[-1].isascii()))
        line += (" " if apart else "") + part
    return line


def places(said: str) -> list[int]:
    """Where in `said` each of its words begins."""
    return [found.start() for found in _WORD.finditer(said)]


def words(said: str) -> list[str]:
    """The words of `spoken`: Latin ones, and single Chinese characters."""
    return _WORD.findall(said)


def number(digits: str, lang: Lang) -> list[str]:
    """The words of a number: up to a hundred as one number, beyond it (and with a leading zero) digit by digit."""
    names = NUMBERS_ZH if lang == "zh" else NUMBERS_EN
    value = int(digits)
    if value > 100 or (digits[0] == "0" and len(digits) > 1):
        return [names[int(digit)] for digit in digits]
    if value == 100:
        return ["一", "百"] if lang == "zh" else ["one", "hundred"]
    if value <= 20:
        return list(names[value]) if lang == "zh" else [names[value]]
    tens, ones = divmod(value, 10)
    if lang == "zh":
        return [names[tens], "十", *names[ones : ones + 1 if ones else ones]]
    return [_TENS[tens], *names[ones : ones + 1 if ones else ones]]
