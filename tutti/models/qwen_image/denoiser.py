"""Qwen-Image's transformer. Pictures of a size share a batch, whatever their prompts' lengths.

Of a model that edits, what is looked at stands behind the latents, in the same row of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition, Denoiser, Row, patches_of
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.drawing.patches import to_latents, to_tokens
from tutti.models.qwen_image.blocks import fuse
from tutti.models.qwen_image.config import edits
from tutti.request import Drawing


class QwenImageDenoiser(Denoiser):
    """See the module."""

    adapts = True
    parts = True
    curve = (-450.0, 280.0, -45.0, 3.2, -0.02)  # of the TeaCache project's ComfyUI node, for Qwen-Image

    def __init__(
        self, transformer: Any, sampler: FlowMatching, *, pixels: int, device: str, looks: bool
    ) -> None:
        channels = transformer.config.in_channels // 4
        super().__init__(sampler, channels=channels, pixels=pixels, device=device, looks=looks)
        self.net = transformer
        fuse(transformer)
        self.scale = sampler.scale
        self.gate.guard(self.net, "transformer_blocks")

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        scales = block.img_mod(temb)[: len(hidden)].chunk(2, dim=-1)[0]
        found: Tensor = block._modulate(block.img_norm1(hidden), scales)[0]
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        return int(self.net.inner_dim) * int(self.net.dtype.itemsize)

    def prepare(self, condition: Condition) -> Tensor:
        """See `Denoiser.prepare`."""
        return condition[0]

    def width(self, prepared: Tensor) -> int:
        """See `Denoiser.width`."""
        return len(prepared)

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance that leaves each token's velocity as long as it was with the prompt alone."""
        height, width = (side // 2 for side in positive.shape[1:])
        own, other = to_tokens(positive), to_tokens(negative)
        guided = other + (drawing.true_guidance or 0.0) * (own - other)
        length = torch.norm(own, dim=-1, keepdim=True) / torch.norm(guided, dim=-1, keepdim=True)
        return to_latents(guided * length, height, width)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net, scale = self.net, self.scale
        seen = [torch.stack(one) for one in zip(*((row.latents, *row.beside) for row in rows), strict=True)]
        height, width = patches_of(seen[0])
        lengths = torch.tensor([len(row.prepared) for row in rows], device=self.device)
        text = pad_sequence([row.prepared for row in rows], batch_first=True).to(net.dtype)
        mask = torch.arange(text.shape[1], device=self.device) < lengths[:, None]
        found = net(
            hidden_states=torch.cat([to_tokens(one) for one in seen], dim=1).to(net.dtype),
            timestep=torch.stack([row.level for row in rows]) * scale / scale,
            encoder_hidden_states_mask=None if bool(mask.all()) else mask,
            encoder_hidden_states=text,
            img_shapes=[[(1, *patches_of(one)) for one in seen]] * len(rows),
            return_dict=False,
        )[0]
        return list(to_latents(found[:, : height * width].float(), height, width))


def build(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageDenoiser:
    """The stage's model."""
    return QwenImageDenoiser(
        load_module(checkpoint, "transformer", options),
        flow_matching(component(checkpoint.config, "scheduler")),
        pixels=vae_pixels(checkpoint.config),
        device=options.device,
        looks=edits(checkpoint.config),
    )
