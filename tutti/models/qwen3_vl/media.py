"""Qwen3-VL's way with pictures, which is Qwen2-VL's, and with videos. No torch.

The frames of a video stand apart in the prompt, each (or each few that are seen together) after its time in words:

    <0.3 seconds> <|vision_start|> ... <|vision_end|> <1.3 seconds> <|vision_start|> ... <|vision_end|>
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tutti.media.image import resize
from tutti.media.sampling import Video
from tutti.media.video import read_video
from tutti.models.processor.files import read_json
from tutti.models.processor.media import ReadMedium, array, place
from tutti.models.processor.tokenizer import Tokenizer, load_tokenizer
from tutti.models.qwen2_vl.media import Pixels, Sight, check_sides, pixels
from tutti.models.reading import require
from tutti.request import Media, MediaInput

_DEFAULTS = {"patch_size": 16}


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that begin and end a picture, and those that stand for pictures and videos."""

    begin: int
    end: int
    image: int
    video: int


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"image", "video"})

    def __init__(self, sight: Sight, film: Pixels, marks: Marks, folder: Path) -> None:
        """`film` is how pixels of videos become patches, `least` and `most` of all frames together."""
        self.sight = sight
        self.film = film
        self.marks = marks
        self.folder = folder

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """Loaded when the first video comes."""
        return load_tokenizer(self.folder)

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`."""
        return self.sight.read(medium) if medium.modality == "image" else self._watch(medium)

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`; the marks around a video's placeholder go, its frames bring their own."""
        marks = self.marks
        bare: list[int] = []
        for token in ids:
            if token == marks.end and bare[-2:] == [marks.begin, marks.video]:
                bare[-2:] = [marks.video]
            else:
                bare.append(token)
        return place(bare, frozenset((marks.image, marks.video)), media)

    def _watch(self, medium: Media) -> ReadMedium:
        """The video as frames uint8 [frames, height, width, 3] of a size the tower takes. Raises InvalidMedia."""
        video, how = read_video(medium.data), self.film
        factor = how.patch * how.merge
        count, height, width, _ = video.frames.shape
        size = film_size(count, height, width, how)
        frames = np.stack([resize(frame, *size) for frame in video.frames])
        grid = (-(-len(frames) // how.frames), size[0] // factor, size[1] // factor)
        seen = [self.marks.begin, *[self.marks.video] * (grid[1] * grid[2]), self.marks.end]
        encode = self._tokenizer.encode
        written = [
            token
            for time in middles(video, how.frames)
            for token in (*encode(f"<{time:.1f} seconds>", False), *seen)
        ]
        arrays = {"frames": array(frames)}
        return ReadMedium("video", arrays, math.prod(grid), grid, written=tuple(written))


def film_size(count: int, height: int, width: int, how: Pixels) -> tuple[int, int]:
    """The size of `count` frames of height x width: `fitted`'s, but `least` and `most` are of all of them.

    Raises InvalidMedia for frames that are mere lines.
    """
    factor = how.patch * how.merge
    if min(height, width) < factor:
        grow = factor / min(height, width)
        height, width = int(height * grow), int(width * grow)
    check_sides(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    total = round(count / how.frames) * how.frames * rows * columns
    if total > how.most:
        shrink = math.sqrt(count * height * width / how.most)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        columns = max(factor, math.floor(width / shrink / factor) * factor)
    elif total < how.least:
        stretch = math.sqrt(how.least / (count * height * width))
        rows = math.ceil(height * stretch / factor) * factor
        columns = math.ceil(width * stretch / factor) * factor
    return rows, columns


def middles(video: Video, together: int) -> list[float]:
    """The time of each `together` frames: the mean of the first and the last; the video's last frame fills up."""
    times = [*video.times, *video.times[-1:] * (-len(video.times) % together)]
    return [(times[first] + times[first + together - 1]) / 2 for first in range(0, len(times), together)]


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    how = pixels(folder, _DEFAULTS | dict(require(config, "vision_config")))
    given = read_json(folder / "video_preprocessor_config.json")
    given = given or read_json(folder / "processor_config.json").get("video_processor") or {}
    size = given.get("size") or {}
    film = replace(
        how,
        least=size.get("shortest_edge") or 128 * 32 * 32,
        most=size.get("longest_edge") or 768 * 32 * 32,
    )
    marks = Marks(
        config.get("vision_start_token_id", 151_652),
        config.get("vision_end_token_id", 151_653),
        require(config, "image_token_id"),
        require(config, "video_token_id"),
    )
    return Reader(Sight(how, None), film, marks, folder)
