"""Qwen3-Omni's way with pictures, videos and sound. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutti.models.processor.speech import HOP
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.media import Reader
from tutti.models.qwen2_vl.media import Sight, pixels
from tutti.models.reading import require

WINDOW = 100  # frames of a spectrogram that are heard together: a second
_TOKENS = 13  # of a whole window


def audio_tokens(samples: int) -> int:
    """The tokens of `samples` samples: three convolutions halve the frames of each window of their spectrogram."""
    whole, rest = divmod(samples // HOP, WINDOW)
    return whole * _TOKENS + (rest + 7) // 8


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    thinker = part(config, "thinker_config")
    how = pixels(folder, {"patch_size": 16} | dict(part(thinker, "vision_config")))
    placeholders = frozenset(require(thinker, f"{kind}_token_id") for kind in ("audio", "image", "video"))
    sight = Sight(how, thinker.get("position_id_per_seconds", 25), follows="exactly")
    return Reader(sight, placeholders, audio_tokens)
