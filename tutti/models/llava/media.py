"""LLaVA's way with pictures: the whole in one square tile and, in LLaVA-NeXT, in more tiles of its own resolution.

LLaVA-NeXT lays a picture on the canvas that keeps most of its pixels and wastes fewest, cuts the canvas into tiles, and
leaves out the rows and columns of patches that saw only the canvas (Liu et al. 2024). No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutti.errors import CheckpointError
from tutti.media.image import read_image, resize
from tutti.models.llava.config import TileConfig, tile_config
from tutti.models.processor.files import image_settings
from tutti.models.processor.media import ReadMedium, array, place
from tutti.models.reading import require
from tutti.request import Media, MediaInput

Size = tuple[int, int]  # height, width


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"image"})

    def __init__(self, tiles: TileConfig, placeholder: int, *, crop: bool) -> None:
        """`crop`: of a picture the middle fills the only tile, instead of the whole, squeezed."""
        self.tiles = tiles
        self.placeholder = placeholder
        self.crop = crop

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        return place(ids, frozenset({self.placeholder}), media)

    def read(self, medium: Media) -> ReadMedium:
        """A picture as tiles uint8 [tiles, side, side, 3] and its size int64 [2]. Raises InvalidMedia."""
        picture = read_image(medium.data)
        side, sizes = self.tiles.pixels, self.tiles.sizes
        height, width = picture.shape[:2]
        if sizes is None:
            whole = center(picture, side) if self.crop else resize(picture, side, side)
            return ReadMedium("image", {"tiles": array(whole[None])}, self.tiles.rows)
        canvas = best_canvas((height, width), sizes)
        tiles = np.stack([resize(picture, side, side), *cut(spread(picture, canvas), side)])
        rows, columns = kept((height, width), canvas, self.tiles)
        tokens = self.tiles.rows + len(rows) * (len(columns) + 1)
        arrays = {"tiles": array(tiles), "size": array(np.array([height, width], dtype=np.int64))}
        return ReadMedium("image", arrays, tokens)


def center(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with its shorter side resized to `side`, and of the longer one the middle."""
    height, width = picture.shape[:2]
    short = min(height, width)
    resized = resize(picture, int(side * height / short), int(side * width / short))
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    return resized[top : top + side, left : left + side]


def best_canvas(picture: Size, sizes: Sequence[Size]) -> Size:
    """The size on which most of the picture's pixels survive; among equals, that with the least room left."""

    def merit(size: Size) -> tuple[int, int]:
        scale = min(size[1] / picture[1], size[0] / picture[0])
        drawn = int(picture[1] * scale) * int(picture[0] * scale)
        used = min(drawn, picture[0] * picture[1])
        return used, used - size[0] * size[1]

    return max(sizes, key=merit)


def spread(picture: np.ndarray, canvas: Size) -> np.ndarray:
    """The picture as large as it can be in the middle of a black canvas, uint8 [*canvas, 3]."""
    height, width = picture.shape[:2]
    across, down = canvas[1] / width, canvas[0] / height
    if across < down:
        fitted = min(math.ceil(height * across), canvas[0]), canvas[1]
    else:
        fitted = canvas[0], min(math.ceil(width * down), canvas[1])
    out = np.zeros((*canvas, 3), dtype=np.uint8)
    top, left = (canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2
    out[top : top + fitted[0], left : left + fitted[1]] = resize(picture, *fitted)
    return out


def cut(canvas: np.ndarray, side: int) -> list[np.ndarray]:
    """The canvas in tiles, row by row."""
    rows, columns = canvas.shape[0] // side, canvas.shape[1] // side
    return [
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]


def kept(picture: Size, canvas: Size, tiles: TileConfig) -> tuple[range, range]:
    """The rows and columns of the canvas's patches that saw the picture, and not the canvas beside it alone."""
    height, width = (extent // tiles.pixels * tiles.side for extent in canvas)
    if picture[1] / picture[0] > width / height:
        margin = (height - int(round(picture[0] * (width / picture[1]), 7))) // 2
        return range(margin, height - margin), range(width)
    margin = (width - int(round(picture[1] * (height / picture[0]), 7))) // 2
    return range(height), range(margin, width - margin)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`. Raises CheckpointError when its tiles are not what the tower takes."""
    tiles = tile_config(config)
    settings = image_settings(folder)
    size = settings.get("size") or tiles.pixels
    extent = size if isinstance(size, int) else size.get("shortest_edge") or size.get("height")
    if extent != tiles.pixels:
        raise CheckpointError(
            f"{folder}: pictures are resized to {extent} pixels, but the vision tower takes {tiles.pixels}"
        )
    if settings.get("do_pad") and tiles.sizes is None:
        raise CheckpointError(f"{folder}: do_pad is not supported; pictures are cut to a square, not padded")
    crop = isinstance(size, int) or "shortest_edge" in size
    return Reader(tiles, require(config, "image_token_index"), crop=crop)
