"""Animated pictures (GIF, WebP, PNG, AVIF) as videos, by Pillow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.image import flatten, open_image, resize
from tutti.media.kind import describe, sniff
from tutti.media.sampling import LARGEST_FRAME, Budget, Video, assemble, choose

if TYPE_CHECKING:
    from PIL import Image

_MOST_FRAMES = 10_000  # of a file; each has to be decoded, whether taken or not
_UNSAID = 100  # milliseconds that browsers show a frame whose duration is 0


def read_animation(data: bytes, budget: Budget) -> Video:
    """The animation in `data`; a GIF may stand still. Raises InvalidMedia, and what Pillow raises."""
    times: list[float] = []
    seconds = 0.0
    with open_image(data, LARGEST_FRAME) as image:
        for frame in _frames(image):
            frame.load()  # only now do all of Pillow's formats know the duration
            times.append(seconds)
            seconds += (frame.info.get("duration") or _UNSAID) / 1000
            budget.check_seconds(seconds)
            if len(times) > _MOST_FRAMES:
                raise InvalidMedia(
                    f"the animation has more than {_MOST_FRAMES:,} frames: send an MP4 or WebM video"
                )
    if len(times) == 1 and sniff(data) != "image/gif":
        raise InvalidMedia(f"this is {describe(data)} that stands still, not a video; send it as a picture")
    taken = choose(times, seconds, budget)
    with open_image(data, LARGEST_FRAME) as image:
        return assemble(_images(image, taken, budget), [times[index] for index in taken], seconds)


def _images(image: Image.Image, taken: Sequence[int], budget: Budget) -> Iterator[np.ndarray]:
    """The frames of these rising indices, uint8 [height, width, 3]."""
    height, width = budget.fit(image.height, image.width, len(taken))
    for index, frame in enumerate(_frames(image)):
        repeats = taken.count(index)
        if repeats:
            picture = resize(np.asarray(flatten(frame)), height, width)
            yield from (picture for _ in range(repeats))


def _frames(image: Image.Image) -> Iterator[Image.Image]:
    from PIL import ImageSequence

    return iter(ImageSequence.Iterator(image))
