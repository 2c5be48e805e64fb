"""How Qwen2.5-Omni reads a text aloud. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutti.models.processor.narrator import ChatNarrator

# The system message that its authors ask for wherever it speaks.
SYSTEM = (
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and "
    "visual inputs, as well as generating text and speech."
)


def narrator(folder: Path, config: dict[str, Any]) -> ChatNarrator:
    """The narrator of the checkpoint in `folder`."""
    return ChatNarrator(SYSTEM)
