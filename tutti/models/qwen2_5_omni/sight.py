"""The thinker's eyes: the vision tower of Qwen2.5-VL's kind."""

from __future__ import annotations

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_vl.media import pixels
from tutti.models.qwen2_vl.vision import VisionTower
from tutti.models.towers import load_tower

TARGET = "transformers.models.qwen2_5_omni.modeling_qwen2_5_omni:Qwen2_5OmniVisionEncoder"


def build(checkpoint: Checkpoint, options: BuildOptions) -> VisionTower:
    """The tower with its weights."""
    config = part(checkpoint.config, "thinker_config", "vision_config")
    tower = load_tower(checkpoint, options, TARGET, config, ("thinker.visual.",))
    return VisionTower(
        tower, pixels(checkpoint.path, config), torch.device(options.device), getattr(torch, options.dtype)
    )
