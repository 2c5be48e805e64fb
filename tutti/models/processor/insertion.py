"""Writing a text between two others ("fill in the middle") by the tokens that code models were trained with.

Which of them a model knows shows in its vocabulary. A template of Ollama's that has a suffix counts before them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tutti.request import Insertion


@dataclass(frozen=True, slots=True)
class InsertionMarks:
    """The tokens before the prefix, before the suffix, and (where there is one) before what is to be written."""

    prefix: str
    suffix: str
    middle: str = ""
    suffix_first: bool = False

    def prompt(self, part: Insertion) -> str:
        """The prompt of an insertion."""
        before, after = f"{self.prefix}{part.prefix}", f"{self.suffix}{part.suffix}"
        return (after + before if self.suffix_first else before + after) + self.middle


_KNOWN = (
    InsertionMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    InsertionMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    InsertionMarks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    InsertionMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    InsertionMarks("[PREFIX]", "[SUFFIX]", suffix_first=True),  # Codestral
)


def find_marks(known: Callable[[str], bool]) -> InsertionMarks | None:
    """The marks that a vocabulary has; `known` says whether it has a token."""
    for marks in _KNOWN:
        if all(known(mark) for mark in (marks.prefix, marks.suffix, marks.middle) if mark):
            return marks
    return None
