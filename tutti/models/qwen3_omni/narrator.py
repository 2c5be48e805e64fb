"""How Qwen3-Omni reads a text aloud. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutti.models.processor.narrator import ChatNarrator


def narrator(folder: Path, config: dict[str, Any]) -> ChatNarrator:
    """The narrator of the checkpoint in `folder`."""
    return ChatNarrator()
