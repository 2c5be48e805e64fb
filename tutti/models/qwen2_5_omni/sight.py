"""The thinker's eyes: the vision tower of Qwen2.5-VL's kind."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_vl.vision import WindowedTower, windowed


def build(checkpoint: Checkpoint, options: BuildOptions) -> WindowedTower:
    """The tower with its weights."""
    config = part(checkpoint.config, "thinker_config", "vision_config")
    return windowed(checkpoint, options, config, ("thinker.visual.",))
