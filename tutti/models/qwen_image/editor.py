"""What may be asked of a model that edits: pictures, and a prompt that says what becomes of them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tutti.errors import InvalidRequest
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.pictures import Sources, read_sources, sized_picture
from tutti.request import Drawing, Part, Text

_MULTIPLE = 32  # pixels of the sides of what is looked at


@dataclass(frozen=True, slots=True)
class Editor(Drawer):
    """A model's habits. It draws, and looks at, about as many pixels as `width` times `height`.

    It takes so many pictures at `most`; the text encoder sees about `glance` pixels of each, or as many as the rest.
    """

    variation: str = "Draw another picture like this one."
    most: int = 1
    glance: int | None = None

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources:
        """See `Drawer.read`."""
        if masks:
            raise InvalidRequest(
                "this model takes no mask: say in the prompt what is to be changed", param="mask"
            )
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
        height, width = sources.pictures[-1].shape[:2]
        return _shaped(self.width * self.height, width, height)

    def begin(self, texts: Sequence[Text], drawing: Drawing, sources: Sources) -> tuple[Part, ...]:
        """See `Drawer.begin`: the pictures stand beside the texts, and in them."""
        if drawing.strength is not None:
            raise InvalidRequest(
                "this model looks at pictures and draws anew: strength means nothing to it", param="strength"
            )
        area = self.width * self.height
        sizes = [_shaped(area, picture.shape[1], picture.shape[0]) for picture in sources.pictures]
        pictures = [
            sized_picture(picture, height, width)
            for picture, (width, height) in zip(sources.pictures, sizes, strict=True)
        ]
        seen = pictures
        if self.glance is not None:
            glances = [
                _shaped(self.glance, picture.shape[1], picture.shape[0]) for picture in sources.pictures
            ]
            seen = [
                sized_picture(picture, height, width)
                for picture, (width, height) in zip(sources.pictures, glances, strict=True)
            ]
        return (*(replace(text, pictures=tuple(seen)) for text in texts), *pictures, drawing)


def _shaped(area: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) of about `area` pixels, in the shape of width x height."""
    across = math.sqrt(area * (width / height))
    down = across / (width / height)
    return tuple(max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in (across, down))  # type: ignore[return-value]
