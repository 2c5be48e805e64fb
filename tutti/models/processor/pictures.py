"""Pictures that a drawing begins from: read from their files, and brought to the size of their stages. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutti.errors import InvalidRequest
from tutti.models.processor.media import ReadMedium, array
from tutti.request import Array, MediaInput

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """`pictures` uint8 [height, width, 3]; `mask` uint8 [height, width] of the first, 255 where it is drawn anew."""

    pictures: tuple[np.ndarray, ...]
    mask: np.ndarray | None = None


def read_sources(pictures: Sequence[bytes], masks: Sequence[bytes]) -> Sources:
    """The pictures in these files, and the mask in the one of `masks`, if there is one.

    Raises InvalidMedia on what is no picture, InvalidRequest on a mask of another size than the first picture.
    """
    from tutti.media.image import read_image, read_mask  # Pillow

    if len(masks) > 1:
        raise InvalidRequest(f"there are {len(masks)} masks; one is taken", param="mask")
    read = tuple(read_image(data) for data in pictures)
    mask = read_mask(masks[0]) if masks else None
    if mask is not None and mask.shape != read[0].shape[:2]:
        sizes = [f"{one.shape[1]}x{one.shape[0]}" for one in (mask, read[0])]
        raise InvalidRequest(
            f"the mask has {sizes[0]} pixels and the picture {sizes[1]}: they must be of one size",
            param="mask",
        )
    return Sources(read, mask)


def sized_picture(picture: np.ndarray, height: int, width: int) -> MediaInput:
    """`picture` as the VAE takes it, resized as diffusers does it."""
    from tutti.media.image import resize

    return ReadMedium("image", {"pixels": array(resize(picture, height, width, "lanczos"))}, 0).at(())


def sized_mask(mask: np.ndarray, height: int, width: int) -> Array:
    """`mask` as `Drawing.mask`: what is meant by half or more is drawn anew."""
    import numpy as np

    from tutti.media.image import resize

    return array((resize(mask, height, width, "lanczos") / np.float32(255) >= 0.5).astype(np.uint8))
