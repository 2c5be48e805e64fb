"""Greedy answers of Tutti's own engine, through its Python door."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti import LLM, SamplingParams

from .engine import Prompt
from .speech import HEARD_RATE


class TuttiEngine:
    def __init__(self, llm: LLM) -> None:
        self.llm = llm

    @classmethod
    def load(cls, directory: Path) -> TuttiEngine:
        return cls(LLM(str(directory)))

    def answer(self, prompts: Sequence[Prompt], longest: int) -> list[str]:
        """Greedy continuations of prompts, at most `longest` tokens each, without their end mark."""
        sampling = SamplingParams(temperature=0.0, max_tokens=longest)
        outputs = self.llm.generate([_given(prompt) for prompt in prompts], sampling)
        return [output.outputs[0].text for output in outputs]


def _given(prompt: Prompt) -> str | dict[str, Any]:
    media: dict[str, Any] = {}
    if prompt.sound is not None:
        media["audio"] = (prompt.sound, HEARD_RATE)
    if prompt.picture is not None:
        media["image"] = prompt.picture
    return {"prompt": prompt.text, "multi_modal_data": media} if media else prompt.text
