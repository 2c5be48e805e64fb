"""What families that film share: latents that have frames, the picture a film begins with, and the way to frames.

What is seen on the way is the first frame, a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.models.drawing.denoiser import Canvas, Decoded, Denoiser, Latents, Row, Sight
from tutti.models.drawing.flow import Sampler
from tutti.models.drawing.vae import VaeDecoder, tile
from tutti.models.processor.media import unpack
from tutti.models.protocols import Film, Picture
from tutti.request import Drawing, MediaInput


class FilmDenoiser(Denoiser):
    """See `Denoiser`. Latents are [channels, frames, rows, columns].

    A network that `holds` the first latent frame of a film is shown the one of the picture it begins with, without
    noise, and told so: of what stands beside such a film, that is the first tensor [channels, 1, rows, columns].
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        channels: int,
        pixels: int,
        every: int,
        patch: int,
        device: str,
        holds: bool,
    ) -> None:
        """A latent frame is `every` frames, but for the first, which is one; a token is `patch` latents a side."""
        super().__init__(sampler, channels=channels, pixels=pixels, device=device, looks=True)
        self.every = every
        self.patch = patch
        self.holds = holds

    def shape(self, drawing: Drawing) -> tuple[int, ...]:
        """See `Denoiser.shape`."""
        channels, rows, columns = super().shape(drawing)
        return channels, ((drawing.frames or 1) - 1) // self.every + 1, rows, columns

    def tokens(self, shape: tuple[int, ...]) -> int:
        """See `Denoiser.tokens`: those of all latent frames."""
        _, frames, rows, columns = shape
        return frames * (rows // self.patch) * (columns // self.patch)

    def cost(self, state: Canvas) -> int:
        """See `Denoiser.cost`."""
        own = self.tokens(tuple(state.latents.shape))
        return sum(own + self.width(one) for one in state.prepared)

    def own_tokens(self, row: Row) -> int:
        """See `Denoiser.own_tokens`: what stands beside is no tokens."""
        return self.tokens(tuple(row.latents.shape))

    def look(
        self, pictures: Sequence[Sight], shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """See `Denoiser.look`: what the one encoder made of all pictures."""
        return pictures[0] if pictures else ()

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from the negative text's velocity: 1 is none."""
        return negative + (drawing.guidance or 0.0) * (positive - negative)

    def preview(self, state: Canvas) -> Latents | None:
        """See `Denoiser.preview`: of the film, its first frame."""
        found = super().preview(state)
        return None if found is None else replace(found, latents=self._begun(found.latents, state)[:, :1])

    def result(self, state: Canvas) -> Latents:
        """See `Denoiser.result`."""
        return Latents(self._begun(state.latents, state))

    def shown(self, rows: list[Row]) -> Tensor:
        """What the network is shown of `rows` in a batch: float32 [rows, channels, frames, rows, columns]."""
        return torch.stack([self._begun(row.latents, row) for row in rows])

    def times(self, rows: list[Row], times: Tensor) -> Tensor:
        """What it is told of their `times` [rows]: these, or [rows, tokens] where a first frame is held at 0."""
        if not (self.holds and any(row.beside for row in rows)):
            return times
        frames = rows[0].latents.shape[1]
        each = times[:, None, None].repeat(1, frames, self.tokens(tuple(rows[0].latents.shape)) // frames)
        for number, row in enumerate(rows):
            each[number, 0] *= not row.beside
        return each.flatten(1)

    def _begun(self, latents: Tensor, of: Canvas | Row) -> Tensor:
        """`latents` with the first frame that is held, if one is."""
        if not (self.holds and of.beside):
            return latents
        return torch.cat([of.beside[0], latents[:, 1:]], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """Pictures a film begins and ends with: uint8 [1 or 2, height, width, 3], for a film of so many `frames`.

    `glances` uint8 [1 or 2, side, side, 3] are the same for a vision encoder, if there is one.
    """

    pixels: np.ndarray
    frames: int
    glances: np.ndarray | None


class FilmEncoder(ABC):
    """See `models.protocols.OnceModel`: pictures to what stands beside a film's latents. Families give `encode`."""

    def __init__(self, vae: Any, budget: int, pixels: int) -> None:
        """`vae`, `budget` and `pixels` as for `VaeEncoder`; no `vae` for a model that takes no pictures."""
        self.vae = vae
        self.budget = budget
        self.pixels = pixels

    @abstractmethod
    def encode(self, openings: list[Opening]) -> list[Sight]:
        """What becomes of each."""

    def take(self, part: MediaInput) -> Opening:
        """See `OnceModel.take`."""
        glances = part.arrays.get("glances")
        return Opening(
            unpack(part.arrays["pixels"]),
            int(part.attributes["frames"]),
            None if glances is None else unpack(glances),
        )

    def cost(self, item: Opening) -> int:
        """See `OnceModel.cost`: latents of a frame, as frames are encoded one after another."""
        _, height, width, _ = item.pixels.shape
        return (height // self.pixels) * (width // self.pixels)

    def bucket(self, item: Opening) -> tuple[int, ...]:
        """See `OnceModel.bucket`."""
        return (*item.pixels.shape, item.frames)

    def run(self, items: list[Opening]) -> list[Sight]:
        """See `OnceModel.run`."""
        tile(self.vae, self.cost(items[0]) > self.budget)
        return self.encode(items)

    def frames(self, items: list[Opening]) -> Tensor:
        """The pictures as the VAE takes them: [items, 3, 1 or 2, height, width] in [-1, 1]."""
        pixels = torch.from_numpy(np.stack([item.pixels for item in items])).movedim(-1, 1).float() / 255
        return (2 * pixels - 1).to(self.vae.device, self.vae.dtype)


class FilmDecoder(VaeDecoder):
    """See `VaeDecoder`. Families give `decode`.

    The decoders go through a film frame by frame, so that their memory grows with the frames' size and not with their
    number.
    """

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [films, 3, frames, height, width] in [-1, 1] of `latents` [films, channels, frames, rows, columns]."""
        raise NotImplementedError

    def made(self, pixels: np.ndarray, item: Decoded) -> Film | Picture:
        """See `VaeDecoder.made`."""
        if item.latents.preview:
            return Picture(pixels[0], item.note, preview=True)
        return Film(pixels, item.rate, item.note)
