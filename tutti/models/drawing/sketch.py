"""Sketches: what latents look like without a pass of the VAE (the "latent2rgb" of ComfyUI).

Of most VAEs, a latent's colour is nearly a linear function of its channels. Which one is found from the decoder itself,
by least squares over a few latents that are always the same, when the first sketch is asked for; so every family has
sketches, and no table of any model is needed. A sketch has no details that are smaller than a latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

_LONGEST = 256  # pixels of a sketch's longer side, where the picture has as many
_SIDE = 16  # latents, of each of those that the map is fitted to
_SAMPLES = 2
_RIDGE = 1e-3  # keeps the map small where the samples leave it open


@dataclass(frozen=True, slots=True, eq=False)
class Sketcher:
    """The map `colours` float32 [channels + 1, 3] from a latent's channels, and a one, to RGB in [-1, 1].

    A latent is so many `pixels` wide in the picture.
    """

    colours: Tensor
    pixels: int

    def draw(self, latents: Tensor) -> Tensor:
        """The sketches [pictures, 3, height, width] of float32 `latents` [pictures, channels, rows, columns]."""
        found = (_with_one(latents.movedim(1, -1)) @ self.colours).movedim(-1, 1)
        scale = max(1, min(self.pixels, _LONGEST // max(found.shape[-2:])))
        return interpolate(found, scale_factor=scale, mode="bilinear", align_corners=False)


def fitted(decode: Callable[[Tensor], Tensor], channels: int, device: torch.device) -> Sketcher:
    """The sketcher of a decoder.

    `decode` gives pixels [pictures, 3, height, width] in [-1, 1] of latents [pictures, channels, rows, columns].
    """
    generator = torch.Generator("cpu").manual_seed(0)
    coarse = torch.randn(_SAMPLES, channels, _SIDE // 4, _SIDE // 4, generator=generator)
    fine = torch.randn(_SAMPLES, channels, _SIDE, _SIDE, generator=generator)
    smooth = interpolate(coarse, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False)
    latents = (smooth + 0.3 * fine).to(device)
    pixels = decode(latents).float().clamp(-1, 1)
    colours = adaptive_avg_pool2d(pixels, (_SIDE, _SIDE)).movedim(1, -1).flatten(0, -2).double()
    given = _with_one(latents.movedim(1, -1).flatten(0, -2).double())
    ridge = _RIDGE * len(given) * torch.eye(channels + 1, dtype=torch.float64, device=device)
    found = torch.linalg.solve(given.T @ given + ridge, given.T @ colours)
    return Sketcher(found.float(), pixels.shape[-1] // _SIDE)


def _with_one(channels: Tensor) -> Tensor:
    """[..., channels] with a one behind."""
    return torch.cat([channels, torch.ones_like(channels[..., :1])], dim=-1)
