"""Stable Diffusion XL's UNet. It takes latents of one size as they are, so pictures of a size share a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Denoiser, Row
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.euler import EulerDiscrete, euler_discrete
from tutti.models.drawing.parts import component, load_module
from tutti.request import Drawing


class SdxlDenoiser(Denoiser):
    """See the module. A velocity is the noise that the network tells, or that is in the v that it tells."""

    adapts = True

    def __init__(self, unet: Any, sampler: EulerDiscrete, *, pixels: int, device: str) -> None:
        super().__init__(sampler, channels=unet.config.in_channels, pixels=pixels, device=device)
        self.net = unet
        self.times, self.noise = sampler.times, sampler.noise

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from what the negative text gives: 1 is none."""
        return negative + (drawing.guidance or 0.0) * (positive - negative)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`. The network is told the size that the picture has, and that nothing is cut off it."""
        net = self.net
        levels = torch.stack([row.level for row in rows])
        latents = torch.stack([row.latents for row in rows])
        height, width = (side * self.pixels for side in rows[0].latents.shape[1:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(rows), device=self.device)
        found = net(
            (latents / ((levels**2 + 1) ** 0.5)[:, None, None, None]).to(net.dtype),
            self.times(levels),
            encoder_hidden_states=torch.stack([row.prepared[0] for row in rows]).to(net.dtype),
            added_cond_kwargs={
                "text_embeds": torch.stack([row.prepared[1] for row in rows]).to(net.dtype),
                "time_ids": sizes.to(net.dtype),
            },
            return_dict=False,
        )[0]
        return list(self.noise(found.float(), latents, levels))


def build(checkpoint: Checkpoint, options: BuildOptions) -> SdxlDenoiser:
    """The stage's model."""
    return SdxlDenoiser(
        load_module(checkpoint, "unet", options),
        euler_discrete(component(checkpoint.config, "scheduler")),
        pixels=vae_pixels(checkpoint.config),
        device=options.device,
    )
