"""Latents to pictures and back by diffusers' VAEs, as stages of one pass: each holds the half that it needs.

What is larger than the stage's budget goes through in tiles (with seams blended), so that memory stays what the plan
counted on; smaller pictures of the same size share a pass. Sketches (`sketch`) take no pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Decoded, Moments
from tutti.models.drawing.describe import VAE_ROWS, vae_pixels
from tutti.models.drawing.parts import load_module
from tutti.models.drawing.sketch import Sketcher, fitted
from tutti.models.processor.media import unpack
from tutti.models.protocols import Film, Picture
from tutti.request import MediaInput


class VaeDecoder:
    """See `models.protocols.OnceModel`. Of a plain VAE (`AutoencoderKL`); others override `decode`."""

    def __init__(self, vae: Any, budget: int) -> None:
        """`budget`: the most latents (rows times columns) of a picture that is decoded in one piece."""
        self.vae = vae
        self.budget = budget
        self._sketcher: Sketcher | None = None  # from the first sketch on

    def take(self, part: Any) -> Any:
        """See `OnceModel.take`: pictures come from the denoiser only."""
        raise AssertionError("a VAE takes latents from an edge")

    def cost(self, item: Decoded) -> int:
        """See `OnceModel.cost`."""
        *_, rows, columns = item.latents.latents.shape
        return 0 if item.latents.sketch else int(rows * columns)

    def bucket(self, item: Decoded) -> tuple[int, ...]:
        """See `OnceModel.bucket`."""
        return item.latents.sketch, *item.latents.latents.shape

    def run(self, items: list[Decoded]) -> list[Film | Picture]:
        """See `OnceModel.run`. Raises StageFailed where what comes out are no numbers."""
        latents = torch.stack([item.latents.latents for item in items])
        if items[0].latents.sketch:
            values = self._sketches(latents)
        else:
            tile(self.vae, self.cost(items[0]) > self.budget)
            values = self.decode(latents.to(self.vae.dtype)).float()
        if not torch.isfinite(values).all():
            raise StageFailed("the VAE gave values that are no numbers; try --dtype float32", stage="vae")
        pixels = ((values / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return [
            self.made(one, item) for one, item in zip(pixels.movedim(1, -1).cpu().numpy(), items, strict=True)
        ]

    def _sketches(self, latents: Tensor) -> Tensor:
        """About what `decode` gives of float32 `latents`, and smaller; only the first ones take a pass of the VAE."""
        frames = latents.dim() == 5  # one of each: what is seen of a film on its way is a picture

        def decode(latents: Tensor) -> Tensor:
            given = latents.to(self.vae.dtype)
            return self.decode(given.unsqueeze(2))[:, :, 0] if frames else self.decode(given)

        if self._sketcher is None:
            tile(self.vae, False)
            self._sketcher = fitted(decode, latents.shape[1], latents.device)
        values = self._sketcher.draw(latents[:, :, 0] if frames else latents)
        return values.unsqueeze(2) if frames else values

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


class VaeEncoder:
    """See `models.protocols.OnceModel`. An item is a picture, uint8 [height, width, 3]; its payload is `Moments`.

    Of a plain VAE (`AutoencoderKL`); others override `encode`.
    """

    def __init__(self, vae: Any, budget: int, pixels: int) -> None:
        """`budget` as for `VaeDecoder`; a latent is so many `pixels` wide and high."""
        self.vae = vae
        self.budget = budget
        self.pixels = pixels

    def take(self, part: MediaInput) -> np.ndarray:
        """See `OnceModel.take`."""
        return unpack(part.arrays["pixels"])

    def cost(self, item: np.ndarray) -> int:
        """See `OnceModel.cost`: latents."""
        height, width, _ = item.shape
        return (height // self.pixels) * (width // self.pixels)

    def bucket(self, item: np.ndarray) -> tuple[int, ...]:
        """See `OnceModel.bucket`."""
        return item.shape

    def run(self, items: list[np.ndarray]) -> list[Moments]:
        """See `OnceModel.run`."""
        tile(self.vae, self.cost(items[0]) > self.budget)
        pixels = torch.from_numpy(np.stack(items)).permute(0, 3, 1, 2).float() / 255
        mean, deviation = self.encode((2 * pixels - 1).to(self.vae.device, self.vae.dtype))
        return list(zip(mean.float().unbind(), deviation.float().unbind(), strict=True))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """`Moments` [pictures, channels, rows, columns] of `pixels` [pictures, 3, height, width] in [-1, 1]."""
        settings = self.vae.config
        found = self.vae.encode(pixels).latent_dist
        mean = (found.mean - (settings.shift_factor or 0.0)) * settings.scaling_factor
        return mean, found.std * settings.scaling_factor


def load_half(checkpoint: Checkpoint, options: BuildOptions, half: str) -> Any:
    """The checkpoint's VAE with its "encoder" or its "decoder", and without the other.

    Channels are last in memory: convolutions take that as it is, where they would copy the other order there and back.
    """
    vae = load_module(checkpoint, "vae", options)
    setattr(vae, "decoder" if half == "encoder" else "encoder", torch.nn.Identity())
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return vae


def build(checkpoint: Checkpoint, options: BuildOptions) -> VaeDecoder:
    """The model of the stage that decodes."""
    return VaeDecoder(load_half(checkpoint, options, "decoder"), VAE_ROWS)


def build_encoder(checkpoint: Checkpoint, options: BuildOptions) -> VaeEncoder:
    """The model of the stage that encodes."""
    vae = load_half(checkpoint, options, "encoder")
    return VaeEncoder(vae, VAE_ROWS, vae_pixels(checkpoint.config))


def tile(vae: Any, on: bool) -> None:
    """Whether what comes next goes through in tiles."""
    if on:
        vae.enable_tiling()
    else:
        vae.disable_tiling()
