"""Positions on three axes, time, height and width (M-RoPE, Wang et al. 2024), for models that see.

A text token stands at the same position on all axes. A picture's tokens form a grid that begins at the position after
the text before it; what follows goes on from the largest side of the grid.
"""

from __future__ import annotations

import numpy as np

from tutti.models.decoder import Decoder
from tutti.request import MediaInput, Request, Tokens


class GridDecoder(Decoder):
    """A decoder whose pictures and videos are grids; implements `models.protocols.PlacesTokens`."""

    def positions(self, request: Request) -> np.ndarray:
        """See `PlacesTokens.positions`; [3, tokens]."""
        length = sum(len(part.ids) for part in request.parts if isinstance(part, Tokens))
        media = [part for part in request.parts if isinstance(part, MediaInput)]
        return grid_positions(length, media)


def grid_positions(length: int, media: list[MediaInput]) -> np.ndarray:
    """Positions [3, length] of a prompt with these media: int64, or float64 where one of them is `exact`.

    A medium's `grid` is (frames, rows, columns) of its tokens, and the attribute `interval` how far apart in time its
    frames are; what follows it stands `advance` positions further, or the longer side of the grid. A medium without a
    grid (a recording) is a line, like text.
    """
    exact = any("exact" in medium.attributes for medium in media)
    places = np.empty((3, length))
    token, position = 0, 0.0
    for medium in sorted(media, key=lambda one: one.spans[0]):
        if not medium.grid:
            continue
        start = medium.spans[0][0]
        places[:, token:start] = position + np.arange(start - token)
        position += start - token
        frames, rows, columns = medium.grid
        times = np.arange(frames) * medium.attributes.get("interval", 1.0)
        times = times if exact else np.floor(times)
        grid = np.stack(np.meshgrid(times, np.arange(rows), np.arange(columns), indexing="ij")).reshape(3, -1)
        token = start + grid.shape[1]
        places[:, start:token] = grid + position
        position += medium.attributes.get("advance", max(rows, columns))
    places[:, token:] = position + np.arange(length - token)
    return places if exact else places.astype(np.int64)
