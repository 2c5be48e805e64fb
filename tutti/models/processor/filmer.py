"""What may be asked of a model that films, the pictures among it that a film begins and ends with. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutti.errors import InvalidRequest
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.media import ReadMedium, array
from tutti.models.processor.pictures import Sources, read_sources
from tutti.request import Drawing, Part, Text

_NAMED = "input_reference"


@dataclass(frozen=True, slots=True)
class Filmer(Drawer):
    """A model's habits; a film has about as many pixels as `width` times `height`, and `film` is there.

    It takes from `least` to `most` pictures: the film's first one, and its last. What sees them besides the VAE, if
    anything does, takes squares of `glance` pixels a side.
    """

    least: int = 0
    most: int = 0
    glance: int | None = None

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources | None:
        """See `Drawer.read`."""
        if masks:
            raise InvalidRequest("this model films, and takes no mask", param="mask")
        self.check_count(len(originals))
        return read_sources(originals, ()) if originals else None

    def check_count(self, count: int) -> None:
        """Raises InvalidRequest unless so many pictures are taken."""
        if count and not self.most:
            raise InvalidRequest(
                "this model films what it is told and takes no picture: leave it out", param=_NAMED
            )
        if count < self.least:
            needs, names = "a picture", _NAMED
            if self.least == 2:
                needs, names = "the film's first picture and its last", f"{_NAMED}, last_image"
            raise InvalidRequest(
                f"this model films from {needs}: send what is missing ({names})", param=_NAMED
            )
        if count > self.most:
            takes = "the film's first picture" + (" and its last" if self.most == 2 else "")
            raise InvalidRequest(f"this model takes {takes}, and the request has {count}", param=_NAMED)

    def size_for(self, sources: Sources) -> tuple[int, int]:
        """See `Drawer.size_for`: in the shape of the first picture, and as large as the model is used to."""
        height, width = sources.pictures[0].shape[:2]
        area = self.width * self.height
        sides = math.sqrt(area * width / height), math.sqrt(area * height / width)
        across, down = (
            min(self.longest, max(self.multiple, round(side) // self.multiple * self.multiple))
            for side in sides
        )
        return across, down

    def begin(self, texts: Sequence[Text], drawing: Drawing, sources: Sources) -> tuple[Part, ...]:
        """See `Drawer.begin`: the pictures are one part, brought to the size of the film."""
        from tutti.media.image import resize

        if drawing.strength is not None:
            raise InvalidRequest(
                "strength means nothing to a model that films: leave it out", param="strength"
            )
        if len(sources.pictures) > (drawing.frames or 0):
            raise InvalidRequest(
                "a film that begins with one picture and ends with another has more than one frame",
                param="num_frames",
            )
        height, width = drawing.height or 0, drawing.width or 0
        arrays = {"pixels": [resize(picture, height, width, "lanczos") for picture in sources.pictures]}
        if self.glance is not None:
            arrays["glances"] = [_square(picture, self.glance) for picture in sources.pictures]
        packed = {name: array(np.stack(pictures)) for name, pictures in arrays.items()}
        return (
            *texts,
            ReadMedium("image", packed, 0, attributes={"frames": float(drawing.frames or 0)}).at(()),
            drawing,
        )


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle of `picture`, resized to `side` pixels as CLIP's processors do it."""
    from tutti.media.image import resize

    height, width = picture.shape[:2]
    shorter = min(height, width)
    height, width = (side * one // shorter for one in (height, width))
    top, left = (height - side) // 2, (width - side) // 2
    return resize(picture, height, width, "bicubic")[top : top + side, left : left + side]
