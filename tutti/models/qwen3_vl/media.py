"""Qwen3-VL's way with pictures, which is Qwen2-VL's. No torch.

Videos are not taken: their frames stand apart in the prompt, each after its time in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutti.models.qwen2_vl.media import Reader, Sight, pixels
from tutti.models.reading import require

_DEFAULTS = {"patch_size": 16}


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    how = pixels(folder, _DEFAULTS | dict(require(config, "vision_config")))
    return Reader(Sight(how, None), frozenset((require(config, "image_token_id"),)), frozenset({"image"}))
