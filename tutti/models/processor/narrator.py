"""How a model has a text read aloud: the interface, the way of models that converse, and long texts. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tutti.request import Chat, Part, Request, Script

_MOST_TOKENS = 200  # of a piece: about a minute of speech, which no voice loses its way in
_SHARE = 12  # of the context that a piece may fill: prompt, reply and the codes of its sound take the rest
_SENTENCES = re.compile(r".+?(?:[.!?…]+[\"'”’)\]]*\s+|[。！？]+[”’」』]*|\n\s*|$)", re.DOTALL)
_CLAUSES = re.compile(r".+?(?:[,;:]\s+|[，；：、]|$)", re.DOTALL)
_WORDS = re.compile(r".+?(?:\s+|$)", re.DOTALL)
_CHARACTERS = re.compile(r".", re.DOTALL)


class Narrator(Protocol):
    """A model's way of reading a text aloud."""

    def stage(self, script: Script, request: Request) -> tuple[tuple[Part, ...], str]:
        """The prompt that has the `script` of `request` read, and the model's reply, where that is given with it.

        Raises InvalidRequest on instructions or a language that the model has no way to heed.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChatNarrator:
    """The way of a model that answers aloud: it is asked to read the text, and its answer is given to be the text.

    `system` is the system message that the model's voice was trained with.
    """

    system: str = ""

    def stage(self, script: Script, request: Request) -> tuple[tuple[Part, ...], str]:
        """See `Narrator.stage`."""
        language = f" in {request.language}" if request.language else ""
        asked = f"Read the following text aloud{language}, word for word."
        if script.instructions:
            asked += f" {script.instructions}"
        opening = [{"role": "system", "content": self.system}] if self.system else []
        messages = (*opening, {"role": "user", "content": f"{asked}\n\n{script.text}"})
        return (Chat(messages),), script.text


def pieces(text: str, measure: Callable[[str], int], context: int) -> list[str]:
    """`text` in pieces that are spoken one after the other: whole sentences, as many as go together.

    `measure` counts tokens. A sentence that is too long by itself is cut between clauses, else between words, else
    anywhere. Joined, the pieces are the text, less the space around them.
    """
    most = max(1, min(_MOST_TOKENS, context // _SHARE))
    found: list[str] = []
    last, size = "", 0
    for part in _parts(text, measure, most, (_SENTENCES, _CLAUSES, _WORDS, _CHARACTERS)):
        grown = size + measure(part)
        if last and grown > most:
            found.append(last)
            last, size = part, measure(part)
        else:
            last, size = last + part, grown
    return [piece.strip() for piece in (*found, last) if piece.strip()]


def _parts(
    text: str, measure: Callable[[str], int], most: int, patterns: tuple[re.Pattern[str], ...]
) -> Iterator[str]:
    """`text` cut by the first of `patterns`, and what is still too long by the others."""
    for part in patterns[0].findall(text):
        if len(patterns) > 1 and measure(part) > most:
            yield from _parts(part, measure, most, patterns[1:])
        else:
            yield part
