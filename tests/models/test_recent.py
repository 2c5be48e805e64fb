"""A file that comes again is not decoded again, and what is kept is bounded."""

from __future__ import annotations

import pytest

from tests.models.test_sight import SMALL, TALL, picture, png
from tutti.errors import InvalidMedia
from tutti.media.image import read_image
from tutti.models.processor.media import ReadMedium, array
from tutti.models.processor.recent import RecentMedia
from tutti.request import Media, MediaInput


class Pixels:
    """A reader of pictures that notes what it reads."""

    modalities = frozenset({"image"})

    def __init__(self) -> None:
        self.read_files: list[bytes] = []

    def read(self, medium: Media) -> ReadMedium:
        self.read_files.append(medium.data)
        return ReadMedium("image", {"pixels": array(read_image(medium.data))}, 1)

    def insert(self, ids: list[int], media: object) -> tuple[list[int], list[MediaInput]]:
        return ids, []


def noise(seed: int) -> Media:
    return Media("image", png(picture(seed, 30, 20)))


SIZE = 20 * 30 * 3


def test_a_file_is_read_once_whoever_brings_it() -> None:
    reader, recent = Pixels(), RecentMedia()
    first = recent.read(reader, Media("image", png(SMALL)))
    other = recent.read(reader, Media("image", png(TALL)))
    assert recent.read(reader, Media("image", png(SMALL))) is first
    assert other.digest != first.digest
    assert reader.read_files == [png(SMALL), png(TALL)]


def test_the_least_recently_used_file_goes_first() -> None:
    reader, recent = Pixels(), RecentMedia(2 * SIZE)
    for seed in (0, 1, 0, 2, 0, 1):
        recent.read(reader, noise(seed))
    assert reader.read_files == [noise(seed).data for seed in (0, 1, 2, 1)]


def test_a_file_that_would_fill_everything_is_not_kept() -> None:
    reader, recent = Pixels(), RecentMedia(SIZE - 1)
    for _ in range(2):
        assert recent.read(reader, noise(0)).nbytes == SIZE
    assert len(reader.read_files) == 2


def test_a_damaged_file_fails_every_time() -> None:
    reader, recent = Pixels(), RecentMedia()
    for _ in range(2):
        with pytest.raises(InvalidMedia):
            recent.read(reader, Media("image", b"no picture"))
    assert len(reader.read_files) == 2
