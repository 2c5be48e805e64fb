"""What turns media into the inputs of a model's stages: the interface, and the arithmetic of placeholders.

A family that sees or hears names in its graph a function that makes a `MediaReader`. Torch-free: this runs in the
process that serves requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tutti.errors import InvalidRequest
from tutti.request import Array, Media, MediaInput


class MediaReader(Protocol):
    """One model's way with media."""

    modalities: frozenset[str]  # what it takes

    def insert(self, ids: list[int], media: Sequence[Media]) -> tuple[list[int], list[MediaInput]]:
        """`ids` with every placeholder grown to the tokens its medium fills, and the media as the encoders take them.

        `media` are in the order of the placeholders. Raises InvalidMedia, InvalidRequest.
        """
        ...


def array(values: np.ndarray) -> Array:
    """The array on its way to a stage."""
    values = np.ascontiguousarray(values)
    return Array(values.dtype.name, values.shape, values.tobytes())


def unpack(values: Array) -> np.ndarray:
    """The array again; read-only, without a copy."""
    return np.frombuffer(values.data, values.dtype).reshape(values.shape)


@dataclass(frozen=True, slots=True)
class ReadMedium:
    """A medium as its encoder takes it, before it is known where in the prompt it stands; fields as in `MediaInput`.

    `tokens` are the tokens it fills.
    """

    modality: str
    arrays: dict[str, Array]
    tokens: int
    grid: tuple[int, ...] = ()
    attributes: dict[str, float] = field(default_factory=dict)


def place(
    ids: Sequence[int], placeholders: frozenset[int], media: Sequence[ReadMedium]
) -> tuple[list[int], list[MediaInput]]:
    """`ids` with each placeholder grown to the tokens its medium fills, and the media with their places.

    Raises InvalidRequest when there are more or fewer placeholders than media.
    """
    grown, spans = grow(ids, placeholders, [one.tokens for one in media])
    return grown, [
        MediaInput(
            one.modality, digest(one.modality, one.arrays), one.arrays, (span,), one.grid, one.attributes
        )
        for one, span in zip(media, spans, strict=True)
    ]


def digest(modality: str, arrays: dict[str, Array], *more: object) -> str:
    """The name of what an encoder makes of these arrays; `more` is what else decides it."""
    found = hashlib.sha256(repr((modality, *more)).encode())
    for name, values in sorted(arrays.items()):
        found.update(repr((name, values.dtype, values.shape)).encode())
        found.update(values.data)
    return found.hexdigest()


def grow(
    ids: Sequence[int], placeholders: frozenset[int], counts: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """`ids` with its k-th placeholder repeated `counts[k]` times, and the (start, length) of each run.

    Raises InvalidRequest when there are more or fewer placeholders than counts.
    """
    places = [index for index, token in enumerate(ids) if token in placeholders]
    if len(places) != len(counts):
        raise InvalidRequest(
            f"the prompt has {len(places)} placeholders for media, but {len(counts)} media were given",
            param="prompt",
        )
    grown: list[int] = []
    spans: list[tuple[int, int]] = []
    last = 0
    for place, count in zip(places, counts, strict=True):
        grown += ids[last:place]
        spans.append((len(grown), count))
        grown += [ids[place]] * count
        last = place + 1
    return grown + list(ids[last:]), spans
