"""Stable Diffusion 3's transformer. It takes latents of one size as they are, so pictures of a size share a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Denoiser, Row
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.sd3.blocks import fuse
from tutti.request import Drawing


class Sd3Denoiser(Denoiser):
    """See the module."""

    adapts = True

    def __init__(self, transformer: Any, sampler: FlowMatching, *, pixels: int, device: str) -> None:
        super().__init__(sampler, channels=transformer.config.in_channels, pixels=pixels, device=device)
        self.net = transformer
        fuse(transformer)
        self.scale = sampler.scale
        self.gate.guard(self.net, "transformer_blocks")

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        found: Tensor = block.norm1(hidden, emb=temb)[0]
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        return int(self.net.inner_dim) * int(self.net.dtype.itemsize)

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from the negative text's velocity: 1 is none."""
        return negative + (drawing.guidance or 0.0) * (positive - negative)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net = self.net
        found = net(
            hidden_states=torch.stack([row.latents for row in rows]).to(net.dtype),
            timestep=torch.stack([row.level for row in rows]) * self.scale,
            encoder_hidden_states=torch.stack([row.prepared[0] for row in rows]).to(net.dtype),
            pooled_projections=torch.stack([row.prepared[1] for row in rows]).to(net.dtype),
            return_dict=False,
        )[0]
        return list(found.float())


def build(checkpoint: Checkpoint, options: BuildOptions) -> Sd3Denoiser:
    """The stage's model."""
    return Sd3Denoiser(
        load_module(checkpoint, "transformer", options),
        replace(flow_matching(component(checkpoint.config, "scheduler")), whole=True),
        pixels=vae_pixels(checkpoint.config),
        device=options.device,
    )
