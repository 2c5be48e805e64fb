"""Wan's VAE. Its latents are normalized channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.film import FilmDecoder
from tutti.models.drawing.parts import load_module
from tutti.models.wan.config import describe_vae


class WanVae(FilmDecoder):
    """See the module."""

    def decode(self, latents: Tensor) -> Tensor:
        """See `FilmDecoder.decode`."""
        settings = self.vae.config
        mean, deviation = (
            torch.tensor(values, device=latents.device, dtype=latents.dtype)[:, None, None, None]
            for values in (settings.latents_mean, settings.latents_std)
        )
        values: Tensor = self.vae.decode(latents / (1.0 / deviation) + mean, return_dict=False)[0]
        return values


def build(checkpoint: Checkpoint, options: BuildOptions) -> WanVae:
    """The stage's model."""
    return WanVae(load_module(checkpoint, "vae", options), describe_vae(checkpoint.config).rows)
