"""FLUX.1's transformer. Its positions are those of one size for a whole batch, so pictures of a size share one.

Of a model that edits, what is looked at stands behind the latents, in the same row of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Denoiser, Row, patches_of
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.drawing.patches import to_latents, to_tokens
from tutti.models.flux.blocks import fuse
from tutti.models.flux.config import edits


class FluxDenoiser(Denoiser):
    """See the module."""

    adapts = True
    parts = True
    # Of the TeaCache project, for FLUX.
    curve = (498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861)

    def __init__(
        self, transformer: Any, sampler: FlowMatching, *, pixels: int, device: str, looks: bool
    ) -> None:
        channels = transformer.config.in_channels // 4
        super().__init__(sampler, channels=channels, pixels=pixels, device=device, looks=looks)
        self.net = transformer
        fuse(transformer)
        self.scale = sampler.scale
        self.gate.guard(self.net, "transformer_blocks", "single_transformer_blocks")

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        found: Tensor = block.norm1(hidden, emb=temb)[0]
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        return int(self.net.inner_dim) * int(self.net.dtype.itemsize)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net, scale = self.net, self.scale
        seen = [torch.stack(one) for one in zip(*((row.latents, *row.beside) for row in rows), strict=True)]
        height, width = patches_of(seen[0])
        places = torch.cat([_places(number, *patches_of(one)) for number, one in enumerate(seen)])
        text = torch.stack([row.prepared[0] for row in rows]).to(net.dtype)
        guidance = None
        if net.config.guidance_embeds:
            guidance = torch.tensor([row.drawing.guidance or 0.0 for row in rows], device=self.device)
        found = net(
            hidden_states=torch.cat([to_tokens(one) for one in seen], dim=1).to(net.dtype),
            timestep=torch.stack([row.level for row in rows]) * scale / scale,
            guidance=guidance,
            pooled_projections=torch.stack([row.prepared[1] for row in rows]).to(net.dtype),
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=self.device),
            img_ids=places.to(self.device),
            return_dict=False,
        )[0]
        return list(to_latents(found[:, : height * width].float(), height, width))


def _places(number: int, rows: int, columns: int) -> Tensor:
    """The position of each patch, [rows * columns, 3]: the picture's number (0 is drawn), its row, its column."""
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.full_like(down, number), down, across], dim=-1).flatten(0, 1).float()


def build(checkpoint: Checkpoint, options: BuildOptions) -> FluxDenoiser:
    """The stage's model."""
    return FluxDenoiser(
        load_module(checkpoint, "transformer", options),
        flow_matching(component(checkpoint.config, "scheduler")),
        pixels=vae_pixels(checkpoint.config),
        device=options.device,
        looks=edits(checkpoint.config),
    )
