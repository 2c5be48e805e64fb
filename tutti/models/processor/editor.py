"""What may be asked of a model that edits: pictures, and a prompt that says what becomes of them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tutti.errors import InvalidRequest
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.pictures import Sources, read_sources, sized_picture
from tutti.request import Drawing, MediaInput, Part, Text

if TYPE_CHECKING:
    import numpy as np

_MULTIPLE = 32  # pixels of the sides of what is looked at


@dataclass(frozen=True, slots=True)
class Editor(Drawer):
    """A model's habits. It draws, and looks at, about as many pixels as `width` times `height`.

    It takes so many pictures at `most`; `needs` says that it draws nothing without one. The text encoder sees about
    `glance` pixels of each, or as many as the rest (None), or nothing (0). `sizes` are the widths and heights that it
    was trained with, if that was with some only: the one whose shape is nearest is taken.
    """

    variation: str = "Draw another picture like this one."
    most: int = 1
    needs: bool = True
    glance: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources | None:
        """See `Drawer.read`."""
        if masks:
            raise InvalidRequest(
                "this model takes no mask: say in the prompt what is to be changed", param="mask"
            )
        if not originals and not self.needs:
            return None
        if not originals:
            raise InvalidRequest(
                "this model edits pictures: send one with the prompt, for instance at /v1/images/edits",
                param="image",
            )
        if len(originals) > self.most:
            some = "one picture" if self.most == 1 else f"{self.most} pictures"
            raise InvalidRequest(
                f"this model looks at {some} at most, and the request has {len(originals)}", param="image"
            )
        return read_sources(originals, ())

    def size_for(self, sources: Sources) -> tuple[int, int]:
        """See `Drawer.size_for`: in the shape of the last picture."""
        return self._seen(sources.pictures[-1])

    def begin(self, texts: Sequence[Text], drawing: Drawing, sources: Sources) -> tuple[Part, ...]:
        """See `Drawer.begin`: the pictures stand beside the texts, and in them."""
        if drawing.strength is not None:
            raise InvalidRequest(
                "this model looks at pictures and draws anew: strength means nothing to it", param="strength"
            )
        pictures = [_sized(picture, *self._seen(picture)) for picture in sources.pictures]
        read = pictures
        if self.glance is not None:
            sights = sources.pictures if self.glance else ()
            read = [_sized(one, *_shaped(self.glance, one.shape[1], one.shape[0])) for one in sights]
        return (*(replace(text, pictures=tuple(read)) for text in texts), *pictures, drawing)

    def _seen(self, picture: np.ndarray) -> tuple[int, int]:
        """The width and height that it looks at `picture` with."""
        height, width = picture.shape[:2]
        if not self.sizes:
            return _shaped(self.width * self.height, width, height)
        down, across = (max(self.multiple, side - side % self.multiple) for side in (height, width))
        return min(self.sizes, key=lambda size: (abs(across / down - size[0] / size[1]), size))


def _sized(picture: np.ndarray, width: int, height: int) -> MediaInput:
    return sized_picture(picture, height, width)


def _shaped(area: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) of about `area` pixels, in the shape of width x height."""
    across = math.sqrt(area * (width / height))
    down = across / (width / height)
    return tuple(max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in (across, down))  # type: ignore[return-value]
