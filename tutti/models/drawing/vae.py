"""Latents to pictures by diffusers' VAEs, as a stage of one pass.

What is larger than the stage's budget is decoded in tiles (with seams blended), so that memory stays what the plan
counted on; smaller pictures of the same size share a pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.models.drawing.denoiser import Decoded
from tutti.models.protocols import Film, Picture


class VaeDecoder:
    """See `models.protocols.OnceModel`. Of a plain VAE (`AutoencoderKL`); others override `decode`."""

    def __init__(self, vae: Any, budget: int) -> None:
        """`budget`: the most latents (rows times columns) of a picture that is decoded in one piece."""
        self.vae = vae
        self.budget = budget

    def take(self, part: Any) -> Any:
        """See `OnceModel.take`: pictures come from the denoiser only."""
        raise AssertionError("a VAE takes latents from an edge")

    def cost(self, item: Decoded) -> int:
        """See `OnceModel.cost`."""
        *_, rows, columns = item.latents.latents.shape
        return int(rows * columns)

    def bucket(self, item: Decoded) -> tuple[int, ...]:
        """See `OnceModel.bucket`."""
        return tuple(item.latents.latents.shape)

    def run(self, items: list[Decoded]) -> list[Film | Picture]:
        """See `OnceModel.run`. Raises StageFailed where what comes out are no numbers."""
        if self.cost(items[0]) > self.budget:
            self.vae.enable_tiling()
        else:
            self.vae.disable_tiling()
        latents = torch.stack([item.latents.latents for item in items]).to(self.vae.dtype)
        values = self.decode(latents).float()
        if not torch.isfinite(values).all():
            raise StageFailed("the VAE gave values that are no numbers; try --dtype float32", stage="vae")
        pixels = ((values / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return [
            self.made(one, item) for one, item in zip(pixels.movedim(1, -1).cpu().numpy(), items, strict=True)
        ]

    def made(self, pixels: np.ndarray, item: Decoded) -> Film | Picture:
        """The payload of an item whose `pixels` are uint8 [height, width, 3]."""
        return Picture(pixels, item.note, item.latents.preview)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [pictures, 3, height, width] in [-1, 1] of `latents` [pictures, channels, rows, columns]."""
        settings = self.vae.config
        values: Tensor = self.vae.decode(
            latents / settings.scaling_factor + (settings.shift_factor or 0.0), return_dict=False
        )[0]
        return values
