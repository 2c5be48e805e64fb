"""LTX-Video's VAE, whose latents are normalized channel by channel. Later ones take the last step of denoising.

These are given a bit of noise with the latents, and told how much (`_TIME`).
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Decoded
from tutti.models.drawing.film import FilmDecoder, FilmEncoder, Opening
from tutti.models.drawing.vae import load_half
from tutti.models.ltx.config import describe_vae, pixels
from tutti.models.protocols import Film, Picture

_TIME, _NOISE = 0.05, 0.025  # as the models are published with


class LtxVae(FilmDecoder):
    """See the module. Films go through one by one: some decoders draw by chance, each film by its own."""

    _noise: Tensor | None = None  # of the film that is decoded

    def cost(self, item: Decoded) -> int:
        """See `OnceModel.cost`: all frames are decoded at once, unless there are too many."""
        return super().cost(item) * item.latents.latents.shape[1]

    def run(self, items: list[Decoded]) -> list[Film | Picture]:
        """See `OnceModel.run`."""
        self.vae.use_framewise_decoding = self.cost(items[0]) > self.budget
        return [self._one(item) for item in items]

    def _one(self, item: Decoded) -> Film | Picture:
        devices = [self.vae.device] if self.vae.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(zlib.crc32(item.note.encode()))
            self._noise = item.latents.noise
            return super().run([item])[0]

    def decode(self, latents: Tensor) -> Tensor:
        """See `FilmDecoder.decode`."""
        mean, deviation = _normal(self.vae)
        latents = latents * deviation.to(latents) / self.vae.config.scaling_factor + mean.to(latents)
        time = None
        if self.vae.config.timestep_conditioning:
            time = torch.full((len(latents),), _TIME, device=latents.device, dtype=latents.dtype)
            if self._noise is not None:
                latents = (1 - _NOISE) * latents + _NOISE * self._noise.to(latents)
        values: Tensor = self.vae.decode(latents, time, return_dict=False)[0]
        return values


class LtxEncoder(FilmEncoder):
    """Gives the moments of the pictures' latent frames, [channels, 1 or 2, rows, columns] each."""

    def encode(self, openings: list[Opening]) -> list[tuple[Tensor, ...]]:
        """See `FilmEncoder.encode`."""
        frames = [self.vae.encode(one).latent_dist for one in self.frames(openings).split(1, dim=2)]
        mean, deviation = (one.float() for one in _normal(self.vae))
        means = (torch.cat([one.mean for one in frames], dim=2).float() - mean) / deviation
        deviations = torch.cat([one.std for one in frames], dim=2).float() / deviation
        return list(zip(means, deviations, strict=True))


def _normal(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of the VAE's own latents, [channels, 1, 1, 1]."""
    return vae.latents_mean[:, None, None, None], vae.latents_std[:, None, None, None]


def build(checkpoint: Checkpoint, options: BuildOptions) -> LtxVae:
    """The model of the stage that decodes."""
    return LtxVae(load_half(checkpoint, options, "decoder"), describe_vae(checkpoint.config).rows)


def build_encoder(checkpoint: Checkpoint, options: BuildOptions) -> LtxEncoder:
    """The model of the stage that encodes pictures."""
    config = checkpoint.config
    return LtxEncoder(load_half(checkpoint, options, "encoder"), describe_vae(config).rows, pixels(config))
