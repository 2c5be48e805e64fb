"""Qwen2-VL's way with pictures and videos: sizes that fit its patches, and as many tokens as they fill. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.image import read_image, resize
from tutti.media.video import read_video
from tutti.models.processor.files import Colours, colours, image_settings
from tutti.models.processor.media import ReadMedium, array, place
from tutti.models.reading import require
from tutti.request import Media, MediaInput

_LARGEST_RATIO = 200  # of a picture's sides


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels become patches: sides in pixels, `frames` in time, `merge` x `merge` patches to a token.

    A picture is resized to `least` to `most` pixels.
    """

    patch: int
    frames: int
    merge: int
    least: int
    most: int
    colours: Colours


def pixels(folder: Path, vision: Mapping[str, Any]) -> Pixels:
    """As preprocessor_config.json says; its defaults are those of the published models."""
    given = image_settings(folder)
    size = given.get("size") or {}
    return Pixels(
        patch=vision.get("patch_size", 14),
        frames=vision.get("temporal_patch_size", 2),
        merge=vision.get("spatial_merge_size", 2),
        least=given.get("min_pixels") or size.get("shortest_edge") or 56 * 56,
        most=given.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280,
        colours=colours(given),
    )


def fitted(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """The size nearest to height x width whose sides are multiples of `factor` and whose area is in [least, most].

    Raises InvalidMedia for a picture that is a mere line.
    """
    check_sides(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > most:
        shrink = math.sqrt(height * width / most)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        columns = max(factor, math.floor(width / shrink / factor) * factor)
    elif rows * columns < least:
        stretch = math.sqrt(least / (height * width))
        rows = math.ceil(height * stretch / factor) * factor
        columns = math.ceil(width * stretch / factor) * factor
    return rows, columns


def check_sides(height: int, width: int) -> None:
    """Raises InvalidMedia for a picture that is a mere line."""
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        raise InvalidMedia(
            f"the picture is {width} x {height} pixels; one side may be at most {_LARGEST_RATIO} times the other"
        )


class Sight:
    """Reads pictures and videos."""

    def __init__(
        self,
        how: Pixels,
        positions_per_second: float | None,
        *,
        follows: Literal["whole", "exactly"] | None = None,
    ) -> None:
        """`positions_per_second` says how far apart in time a video's frames stand; None: one after the other.

        `follows`: what follows a video stands behind its last frame, and not only behind its longer side; its frames
        stand at whole positions, or exactly where their times are.
        """
        self.how = how
        self.positions_per_second = positions_per_second
        self.follows = follows

    def read(self, medium: Media) -> ReadMedium:
        """The medium as frames uint8 [frames, height, width, 3] of a size the tower takes. Raises InvalidMedia."""
        frames, interval = self._frames(medium)
        how = self.how
        grid = (
            -(-len(frames) // how.frames),
            frames.shape[1] // how.patch // how.merge,
            frames.shape[2] // how.patch // how.merge,
        )
        attributes = {"interval": interval}
        last = (grid[0] - 1) * interval
        if self.follows == "whole":
            attributes["advance"] = max(*grid[1:], int(last) + 1)
        elif self.follows == "exactly":
            attributes |= {"advance": max(*grid[1:], last + 1), "exact": 1.0}
        return ReadMedium(medium.modality, {"frames": array(frames)}, math.prod(grid), grid, attributes)

    def _frames(self, medium: Media) -> tuple[np.ndarray, float]:
        """The frames, and how far apart in time those of neighbouring tokens stand."""
        how = self.how
        factor = how.patch * how.merge
        if medium.modality == "image":
            picture = read_image(medium.data)
            height, width = picture.shape[:2]
            size = fitted(height, width, factor, how.least, how.most)
            return resize(picture, *size)[None], 1.0
        video = read_video(medium.data)
        most = max(how.least, how.most // max(1, len(video.frames) // how.frames))
        height, width = video.frames.shape[1:3]
        size = fitted(height, width, factor, min(how.least, most), most)
        frames = np.stack([resize(frame, *size) for frame in video.frames])
        seconds = how.frames / video.rate
        per_second = self.positions_per_second
        return frames, 1.0 if per_second is None else per_second * seconds


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"image", "video"})

    def __init__(self, sight: Sight, placeholders: frozenset[int]) -> None:
        """`placeholders` are the tokens that stand for a medium."""
        self.sight = sight
        self.placeholders = placeholders

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`."""
        return self.sight.read(medium)

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        return place(ids, self.placeholders, media)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    vision = require(config, "vision_config")
    placeholders = frozenset((require(config, "image_token_id"), require(config, "video_token_id")))
    return Reader(Sight(pixels(folder, vision), vision.get("tokens_per_second")), placeholders)
