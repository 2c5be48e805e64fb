"""The thinker's eyes: a vision tower of Qwen3-VL's kind."""

from __future__ import annotations

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_vl.media import pixels
from tutti.models.qwen3_vl.vision import DeepVisionTower
from tutti.models.towers import load_tower

TARGET = "transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe:Qwen3OmniMoeVisionEncoder"


def build(checkpoint: Checkpoint, options: BuildOptions) -> DeepVisionTower:
    """The tower with its weights."""
    config = dict(part(checkpoint.config, "thinker_config", "vision_config"))
    tower = load_tower(checkpoint, options, TARGET, config, ("thinker.visual.",))
    how = pixels(checkpoint.path, {"patch_size": 16} | config)
    return DeepVisionTower(tower, how, torch.device(options.device), getattr(torch, options.dtype))
