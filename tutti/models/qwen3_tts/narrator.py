"""How Qwen3-TTS is asked to read a text. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import InvalidRequest
from tutti.request import Part, Request, Script, Text


@dataclass(frozen=True, slots=True)
class Narrator:
    """Implements `models.processor.narrator.Narrator`; `instructed`: whether it heeds instructions."""

    instructed: bool

    def stage(self, script: Script, request: Request) -> tuple[tuple[Part, ...], str]:
        """See `Narrator.stage`: what instructs, and the turn of the assistant, which the text begins."""
        if script.instructions and not self.instructed:
            raise InvalidRequest(
                "instructions: this model (0.6B) does not heed them; leave them out", param="instructions"
            )
        text = f"<|im_start|>assistant\n{_plain(script.text)}"
        if script.instructions:
            text = f"<|im_start|>user\n{_plain(script.instructions)}<|im_end|>\n{text}"
        return (Text(text, add_special_tokens=False),), ""


def _plain(text: str) -> str:
    """`text` without anything that would be taken for a mark of the prompt."""
    return text.replace("<|", "< |")


def narrator(folder: Path, config: dict[str, Any]) -> Narrator:
    """The narrator of the checkpoint in `folder`."""
    return Narrator(config.get("tts_model_size") != "0b6")
