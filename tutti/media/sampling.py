"""Which frames of a video are taken and how large they may be, whatever library reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tutti.errors import InvalidMedia

_JITTER = 0.1  # frames; the rate is constant but for the rounding of times
LARGEST_FRAME = 8192 * 4352  # pixels of a frame before it is made smaller: 8K


@dataclass(frozen=True, slots=True)
class Video:
    """`frames` uint8 [frames, height, width, 3] in RGB, taken `rate` a second of a video of so many `seconds`.

    `times` says when each is shown, in seconds from the first frame of the video on.
    """

    frames: np.ndarray
    rate: float
    seconds: float
    times: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of `video.read_video`, which explains them."""

    fps: float
    most_frames: int
    most_seconds: float
    most_pixels: int
    total_pixels: int

    def check_size(self, width: int, height: int) -> None:
        """Raises InvalidMedia on frames that are too large to decode."""
        if width * height > LARGEST_FRAME:
            raise InvalidMedia(
                f"the video is {width} x {height}, {width * height:,} pixels a frame; at most {LARGEST_FRAME:,} are "
                "taken: make it smaller"
            )

    def check_seconds(self, seconds: float) -> None:
        """Raises InvalidMedia on a video that is too long."""
        if seconds > self.most_seconds:
            raise InvalidMedia(
                f"the video is {seconds:,.1f} seconds long; at most {self.most_seconds:,.1f} are taken: "
                "cut it into pieces"
            )

    def fit(self, height: int, width: int, count: int) -> tuple[int, int]:
        """The size at which each of `count` frames is kept: theirs, or a smaller one of the same shape."""
        most = min(self.most_pixels, self.total_pixels // count)
        if height * width <= most:
            return height, width
        shrink = math.sqrt(most / (height * width))
        return max(1, math.floor(height * shrink)), max(1, math.floor(width * shrink))


def choose(times: Sequence[float], seconds: float, budget: Budget) -> list[int]:
    """Which of the frames shown at `times` (seconds, rising) to take: the nearest ones to evenly spaced moments.

    A frame that stands still for long may be taken several times. At a constant rate these are the indices
    round(linspace(0, frames - 1, taken)).
    """
    count = max(2, round(seconds * budget.fps))
    count = max(1, min(count, budget.most_frames, len(times)))
    moments = np.linspace(times[0], times[-1], count)
    places = np.interp(moments, times, np.arange(len(times)))
    even = np.linspace(0, len(times) - 1, count)
    if np.abs(places - even).max() < _JITTER:
        places = even
    return [int(place) for place in np.rint(places)]


def assemble(images: Iterable[np.ndarray], times: Sequence[float], seconds: float) -> Video:
    """The video of images [height, width, 3], shown at `times`, that were taken of so many seconds."""
    count = len(times)
    frames: np.ndarray | None = None
    for index, image in enumerate(images):
        if frames is None:
            frames = np.empty((count, *image.shape), np.uint8)
        frames[index] = image
    assert frames is not None, "a video has a frame at least"
    return Video(frames, count / seconds, seconds, tuple(times))
