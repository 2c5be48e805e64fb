"""Greedy answers of Tutti's own engine, through its Python door."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutti import LLM, SamplingParams


class TuttiEngine:
    def __init__(self, llm: LLM) -> None:
        self.llm = llm

    @classmethod
    def load(cls, directory: Path) -> TuttiEngine:
        return cls(LLM(str(directory)))

    def answer(self, prompts: Sequence[str], longest: int) -> list[str]:
        """Greedy continuations of rendered prompts, at most `longest` tokens each, without their end mark."""
        outputs = self.llm.generate(list(prompts), SamplingParams(temperature=0.0, max_tokens=longest))
        return [output.outputs[0].text for output in outputs]
