"""Latents to films, as a stage of one pass. What is seen on the way is the first frame, a picture."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tutti.models.drawing.denoiser import Decoded
from tutti.models.drawing.vae import VaeDecoder
from tutti.models.protocols import Film, Picture


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
