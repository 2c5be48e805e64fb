"""The vision tower: Qwen2-VL's way from patches to rows, each row with what the tower's inner layers saw beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_vl.encoder import Grid
from tutti.models.qwen2_vl.media import pixels
from tutti.models.qwen2_vl.vision import VisionTower
from tutti.models.qwen3_vl.config import vision_config
from tutti.models.towers import load_tower

TOWERS = {
    "qwen3_vl": "transformers.models.qwen3_vl.modeling_qwen3_vl:Qwen3VLVisionModel",
    "qwen3_vl_moe": "transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe:Qwen3VLMoeVisionModel",
}


class DeepVisionTower(VisionTower):
    """Gives rows [tokens, hidden * (1 + n)]: the embedding, then a feature for each of the decoder's n first layers."""

    def encode(self, values: Tensor, grids: list[Grid]) -> Tensor:
        """See `VisionTower.encode`."""
        seen = self.tower(values, grid_thw=torch.tensor(grids, device=self.device))
        return torch.cat([seen.pooler_output, *seen.deepstack_features], dim=1)


def build(checkpoint: Checkpoint, options: BuildOptions) -> DeepVisionTower:
    """The tower with its weights."""
    config = dict(vision_config(checkpoint.config))
    config.pop("model_type", None)  # published ones say the whole model's
    target = TOWERS[str(checkpoint.config["model_type"])]
    tower = load_tower(checkpoint, options, target, config, ("model.visual.",))
    return DeepVisionTower(
        tower,
        pixels(checkpoint.path, {"patch_size": 16} | config),
        torch.device(options.device),
        getattr(torch, options.dtype),
    )
