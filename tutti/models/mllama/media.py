"""Llama 3.2 Vision's way with pictures: on a canvas of up to four tiles, and who looks at which. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from tutti.errors import CheckpointError, InvalidRequest
from tutti.media.image import read_image, resize
from tutti.models.mllama.config import MOST_PICTURES, TileConfig, text_config, tile_config
from tutti.models.processor.files import image_settings
from tutti.models.processor.media import ReadMedium, array, check_places
from tutti.request import Media, MediaInput

Size = tuple[int, int]  # height, width


class Reader:
    """Implements `models.processor.media.MediaReader`.

    Pictures fill one token each and stand nowhere in the engine's sense: their inputs have no spans. Attributes
    `start` and `stop` are the tokens that look at a picture, `tiles` is how many tiles it has.
    """

    modalities = frozenset({"image"})

    def __init__(self, tiles: TileConfig, placeholder: int) -> None:
        self.tiles = tiles
        self.placeholder = placeholder
        self.arrangements = arrangements(tiles.most)

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`.

        A picture as tiles uint8 [tiles, side, side, 3] and the number of their arrangement int64 [1].
        """
        picture = read_image(medium.data)
        canvas = best_canvas((picture.shape[0], picture.shape[1]), self.arrangements, self.tiles.pixels)
        tiles = cut(spread(picture, canvas, self.tiles.pixels), canvas)
        number = 1 + self.arrangements.index(canvas)  # 0 would be no picture
        arrays = {"tiles": array(tiles), "arrangement": array(np.array([number], dtype=np.int64))}
        return ReadMedium("image", arrays, 1, attributes={"tiles": float(len(tiles))})

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        if len(media) > MOST_PICTURES:
            raise InvalidRequest(f"the model takes {MOST_PICTURES} pictures with a request, not {len(media)}")
        places = looked_at(check_places(ids, frozenset({self.placeholder}), len(media)))
        return ids, [
            replace(one.at(()), attributes=one.attributes | {"start": start, "stop": stop})
            for one, (start, stop) in zip(media, places, strict=True)
        ]


def looked_at(places: Sequence[int]) -> list[tuple[float, float]]:
    """Which tokens look at the pictures at `places`: from its own to the next picture's, or the end.

    Pictures in a row are looked at as long as the last of them.
    """
    stops = [*map(float, places[1:]), math.inf]
    for index in range(len(places) - 2, -1, -1):
        if places[index + 1] == places[index] + 1:
            stops[index] = stops[index + 1]
    return [(float(start), stop) for start, stop in zip(places, stops, strict=False)]


def arrangements(most: int) -> tuple[Size, ...]:
    """All ways to lay at most so many tiles in rows and columns; a picture's is told to the tower by its number."""
    extents = range(1, most + 1)
    return tuple((rows, columns) for rows in extents for columns in extents if rows * columns <= most)


def best_canvas(picture: Size, ways: Sequence[Size], side: int) -> Size:
    """The arrangement, in tiles of `side` pixels, that enlarges the picture least, or else shrinks it least.

    Among equals, the one with the fewest tiles.
    """
    scales = [min(rows * side / picture[0], columns * side / picture[1]) for rows, columns in ways]
    larger = [scale for scale in scales if scale >= 1]
    chosen = min(larger) if larger else max(scales)
    fitting = [way for way, scale in zip(ways, scales, strict=True) if scale == chosen]
    return min(fitting, key=lambda way: way[0] * way[1])


def spread(picture: np.ndarray, canvas: Size, side: int) -> np.ndarray:
    """The picture in the upper left of a black canvas, as large as it can be; a small one grows to a tile at most."""
    height, width = picture.shape[:2]
    target = [
        min(max(extent, side), tiles * side) for extent, tiles in zip((height, width), canvas, strict=True)
    ]
    down, across = target[0] / height, target[1] / width
    if across < down:
        fitted = min(math.floor(height * across) or 1, target[0]), target[1]
    else:
        fitted = target[0], min(math.floor(width * down) or 1, target[1])
    out = np.zeros((canvas[0] * side, canvas[1] * side, 3), dtype=np.uint8)
    out[: fitted[0], : fitted[1]] = resize(picture, *fitted, filter="bilinear")
    return out


def cut(image: np.ndarray, canvas: Size) -> np.ndarray:
    """The canvas in tiles, row by row, [tiles, side, side, 3]."""
    rows, columns = canvas
    side = image.shape[0] // rows
    lines = image.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return lines.reshape(rows * columns, side, side, 3)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`. Raises CheckpointError when its tiles are not what the tower takes."""
    tiles = tile_config(config)
    settings = image_settings(folder)
    size = settings.get("size") or {"height": tiles.pixels, "width": tiles.pixels}
    most = settings.get("max_image_tiles", tiles.most)
    if (size.get("height"), size.get("width"), most) != (tiles.pixels, tiles.pixels, tiles.most):
        raise CheckpointError(
            f"{folder}: pictures are cut into {most} tiles of {size}, but the vision tower takes {tiles.most} of "
            f"{tiles.pixels} pixels"
        )
    return Reader(tiles, int(config.get("image_token_index", text_config(config)["vocab_size"])))
