"""Positions on three axes, time, height and width (M-RoPE, Wang et al. 2024), for models that see.

A text token stands at the same position on all axes. A picture's tokens form a grid that begins at the position after
the text before it; what follows goes on from the largest side of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

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


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens from `start` on that stand at `places` [3, tokens], from where the text before them ends.

    What follows stands `advance` positions further. `marked`: the mark before them shares its position with the one
    before it, and so do the two behind them.
    """

    start: int
    places: np.ndarray
    advance: float
    marked: bool = False


def grid_positions(length: int, media: Sequence[MediaInput]) -> np.ndarray:
    """Positions [3, length] of a prompt with these media: int64, or float64 where one of them is `exact`.

    A medium's `grid` is (frames, rows, columns) of its tokens, and the attribute `interval` how far apart in time its
    frames are; what follows it stands `advance` positions further, or the longer side of the grid. Where it has a span
    for each frame, with words between, each is a grid by itself. A video that is heard is followed by its sound
    track, both `together`: they begin at the same position. Any other medium without a grid (a recording) is a line,
    like text.
    """
    exact = any("exact" in medium.attributes for medium in media)
    places = np.empty((3, length))
    token, position = 0, 0.0
    for block in sorted(_blocks(media, exact), key=lambda one: one.start):
        places[:, token : block.start] = position + np.arange(block.start - token)
        position += block.start - token
        if block.marked:
            position -= 1
            places[:, block.start - 1] = position - 1
        token = block.start + block.places.shape[1]
        places[:, block.start : token] = block.places + position
        position += block.advance
        if block.marked:
            places[:, token : token + 2] = position
            token, position = token + 2, position + 1
    places[:, token:] = position + np.arange(length - token)
    return places if exact else places.astype(np.int64)


def _blocks(media: Sequence[MediaInput], exact: bool) -> Iterator[Block]:
    for medium, track in zip_longest(media, media[1:]):
        if not medium.grid:
            continue
        _, rows, columns = medium.grid
        spans = medium.spans
        if "together" in medium.attributes:
            yield _together(medium, track, exact)
        elif len(spans) > 1:
            for start, _ in spans:
                yield Block(start, _grid(medium, exact, 1), max(rows, columns))
        else:
            advance = medium.attributes.get("advance", max(rows, columns))
            yield Block(spans[0][0], _grid(medium, exact), advance)


def _grid(medium: MediaInput, exact: bool, most: int | None = None) -> np.ndarray:
    """Positions [3, tokens] of a medium's frames, or of the first `most`."""
    frames, rows, columns = medium.grid
    times = np.arange(most or frames) * medium.attributes.get("interval", 1.0)
    sides = (times if exact else np.floor(times), np.arange(rows), np.arange(columns))
    return np.stack(np.meshgrid(*sides, indexing="ij")).reshape(3, -1)


def _together(video: MediaInput, track: MediaInput, exact: bool) -> Block:
    """A video's tokens and those of its sound, among each other."""
    start = min(video.spans[0][0], track.spans[0][0])
    length = video.rows + track.rows
    places = np.empty((3, length))
    line = np.broadcast_to(np.arange(float(track.rows)), (3, track.rows))
    for medium, own in ((video, _grid(video, exact)), (track, line)):
        here = np.concatenate([np.arange(first, first + count) for first, count in medium.spans]) - start
        places[:, here] = own
    last = max(video.spans[-1], track.spans[-1])[0] - start
    return Block(start, places, float(places[:, last:].max()) + 1, "marked" in video.attributes)
