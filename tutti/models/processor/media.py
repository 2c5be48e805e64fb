"""What turns media into the inputs of a model's stages: the interface, and the arithmetic of placeholders.

A family that sees or hears names in its graph a function that makes a `MediaReader`. Torch-free: this runs in the
process that serves requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from tutti.errors import InvalidRequest
from tutti.request import Array, Media, MediaInput

Span = tuple[int, int]  # where tokens begin in the prompt, and how many they are


class MediaReader(Protocol):
    """One model's way with media."""

    modalities: frozenset[str]  # what it takes

    def read(self, medium: Media) -> ReadMedium:
        """The medium, decoded and brought to the size or rate of its encoder; the same for the same file.

        A reader of sound and of videos heeds `Media.sound`. Raises InvalidMedia.
        """
        ...

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """`ids` with every placeholder grown to the tokens its medium fills, and the media as the encoders take them.

        `media` are in the order of the placeholders. Raises InvalidRequest.
        """
        ...


def array(values: np.ndarray) -> Array:
    """The array on its way to a stage."""
    values = np.ascontiguousarray(values)
    return Array(values.dtype.name, values.shape, values.tobytes())


def unpack(values: Array) -> np.ndarray:
    """The array again; read-only, without a copy."""
    return np.frombuffer(values.data, values.dtype).reshape(values.shape)


@dataclass(frozen=True)
class ReadMedium:
    """A medium as its encoder takes it, before it is known where in the prompt it stands; fields as in `MediaInput`.

    `tokens` are the tokens it fills. `written`, when given, stands in the prompt instead of its placeholder: there its
    tokens are those that are the placeholder. `track` is the sound that is heard with a video: its tokens, each a
    `track_token`, are in `written` as well.
    """

    modality: str
    arrays: dict[str, Array]
    tokens: int
    grid: tuple[int, ...] = ()
    attributes: dict[str, float] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    track: ReadMedium | None = None
    track_token: int = -1

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, a sound track's with them."""
        own = sum(len(values.data) for values in self.arrays.values())
        return own + (0 if self.track is None else self.track.nbytes)

    @cached_property
    def digest(self) -> str:
        """The name of what an encoder makes of it."""
        found = hashlib.sha256(repr((self.modality, *sorted(self.attributes.items()))).encode())
        for name, values in sorted(self.arrays.items()):
            found.update(repr((name, values.dtype, values.shape)).encode())
            found.update(values.data)
        return found.hexdigest()

    def at(self, spans: Sequence[Span]) -> MediaInput:
        """The medium where it stands."""
        return MediaInput(self.modality, self.digest, self.arrays, tuple(spans), self.grid, self.attributes)


def place(
    ids: Sequence[int], placeholders: frozenset[int], media: Sequence[ReadMedium]
) -> tuple[list[int], list[MediaInput]]:
    """`ids` with each placeholder grown to the tokens its medium fills, and the media with their places.

    A video's sound track follows it. Raises InvalidRequest when there are more or fewer placeholders than media.
    """
    check_places(ids, placeholders, len(media))
    grown: list[int] = []
    inputs: list[MediaInput] = []
    waiting = iter(media)
    for token in ids:
        if token not in placeholders:
            grown.append(token)
            continue
        medium = next(waiting)
        written = medium.written or (token,) * medium.tokens
        inputs.append(medium.at(_runs(written, token, len(grown))))
        if medium.track is not None:
            inputs.append(medium.track.at(_runs(written, medium.track_token, len(grown))))
        grown += written
    return grown, inputs


def _runs(written: Sequence[int], token: int, first: int) -> list[Span]:
    """The (start, length) of each run of `token` in `written`, which begins at `first`."""
    spans: list[Span] = []
    for place, one in enumerate(written, first):
        if one != token:
            continue
        if spans and sum(spans[-1]) == place:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((place, 1))
    return spans


def check_places(ids: Sequence[int], placeholders: frozenset[int], count: int) -> list[int]:
    """Where the placeholders are. Raises InvalidRequest unless there are `count` of them."""
    places = [place for place, token in enumerate(ids) if token in placeholders]
    if len(places) != count:
        raise InvalidRequest(
            f"the prompt has {len(places)} placeholders for media, but {count} media were given",
            param="prompt",
        )
    return places
