"""Qwen-Image's VAE, which is one of videos: a picture is a video of one frame."""

from __future__ import annotations

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.describe import VAE_ROWS
from tutti.models.drawing.parts import load_module
from tutti.models.drawing.vae import VaeDecoder


class QwenImageVae(VaeDecoder):
    """Latents are normalized channel by channel."""

    def decode(self, latents: Tensor) -> Tensor:
        """See `VaeDecoder.decode`."""
        settings = self.vae.config
        mean, deviation = (
            torch.tensor(values, device=latents.device, dtype=latents.dtype)[:, None, None]
            for values in (settings.latents_mean, settings.latents_std)
        )
        frames = (latents / (1.0 / deviation) + mean).unsqueeze(2)
        values: Tensor = self.vae.decode(frames, return_dict=False)[0][:, :, 0]
        return values


def build(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageVae:
    """The stage's model."""
    return QwenImageVae(load_module(checkpoint, "vae", options), VAE_ROWS)
