"""Qwen-Image's VAE, which is one of videos: a picture is a video of one frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.describe import VAE_ROWS, vae_pixels
from tutti.models.drawing.vae import VaeDecoder, VaeEncoder, load_half
from tutti.models.qwen_image.stills import keep_to_stills


class QwenImageDecoder(VaeDecoder):
    """Latents are normalized channel by channel."""

    def decode(self, latents: Tensor) -> Tensor:
        """See `VaeDecoder.decode`."""
        mean, deviation = _normal(self.vae, latents)
        frames = (latents / (1.0 / deviation) + mean).unsqueeze(2)
        values: Tensor = self.vae.decode(frames, return_dict=False)[0][:, :, 0]
        return values


class QwenImageEncoder(VaeEncoder):
    """The same the other way."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `VaeEncoder.encode`."""
        found = self.vae.encode(pixels.unsqueeze(2)).latent_dist
        mean, deviation = _normal(self.vae, pixels)
        return (found.mean[:, :, 0] - mean) * (1.0 / deviation), found.std[:, :, 0] * (1.0 / deviation)


def _normal(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of the VAE's own latents, [channels, 1, 1]."""
    mean, deviation = (
        torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, deviation


def build(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageDecoder:
    """The model of the stage that decodes."""
    return QwenImageDecoder(keep_to_stills(load_half(checkpoint, options, "decoder")), VAE_ROWS)


def build_encoder(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageEncoder:
    """The model of the stage that encodes."""
    vae = keep_to_stills(load_half(checkpoint, options, "encoder"))
    return QwenImageEncoder(vae, VAE_ROWS, vae_pixels(checkpoint.config))
