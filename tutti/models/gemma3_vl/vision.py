"""The tower and the projector: pictures to the rows that stand in the prompt. Both are transformers' modules."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.gemma3_vl.config import vision_config
from tutti.models.processor.files import Colours, colours, image_settings
from tutti.models.processor.media import unpack
from tutti.models.towers import fill, load_tower, normalized
from tutti.request import MediaInput

TOWER = "transformers.models.siglip.modeling_siglip:SiglipVisionModel"
HOMES = ("model.", "")  # where both lie, in checkpoints of either generation of transformers


class VisionTower:
    """Implements `models.protocols.OnceModel`."""

    def __init__(self, tower: nn.Module, projector: nn.Module, patches: int, colours: Colours) -> None:
        """`patches` are those of a picture."""
        self.tower = tower
        self.projector = projector
        self.patches = patches
        self.colours = colours

    def take(self, part: MediaInput) -> Tensor:
        """See `OnceModel.take`: pixels uint8 [side, side, 3] to float32 [3, side, side]."""
        pixels = torch.from_numpy(unpack(part.arrays["pixels"]).copy())
        return normalized(pixels, self.colours).permute(2, 0, 1)

    def cost(self, item: Tensor) -> int:
        """See `OnceModel.cost`: patches."""
        return self.patches

    def bucket(self, item: Tensor) -> Hashable:
        """See `OnceModel.bucket`: all pictures are of one size."""
        return None

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [tokens, hidden] per item."""
        weight = next(self.projector.parameters())
        seen = self.tower(torch.stack(items).to(weight.device, weight.dtype)).last_hidden_state
        return list(self.projector(seen))


def build(checkpoint: Checkpoint, options: BuildOptions) -> VisionTower:
    """The tower and the projector with their weights."""
    from transformers import Gemma3Config
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    vision = vision_config(checkpoint.config)
    prefixes = [f"{home}vision_tower.{inner}" for inner in ("vision_model.", "") for home in HOMES]
    tower = load_tower(checkpoint, options, TOWER, vision, prefixes)
    with torch.device("meta"):
        projector: nn.Module = Gemma3MultiModalProjector(Gemma3Config.from_dict(dict(checkpoint.config)))
    names = (f"{home}multi_modal_projector." for home in HOMES)
    fill(
        projector,
        checkpoint,
        options,
        next(name for name in names if f"{name}mm_input_projection_weight" in checkpoint.tensors),
    )
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    grey = (0.5, 0.5, 0.5)
    return VisionTower(tower, projector.eval(), patches, colours(image_settings(checkpoint.path), grey, grey))
