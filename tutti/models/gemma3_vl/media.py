"""Gemma 3's way with pictures: each a square of the same size, in a paragraph of its own in the prompt. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tutti.errors import CheckpointError, InvalidRequest
from tutti.media.image import read_image, resize
from tutti.models.gemma3_vl.config import picture_tokens, vision_config
from tutti.models.processor.files import image_settings
from tutti.models.processor.media import ReadMedium, array
from tutti.models.processor.tokenizer import Tokenizer, load_tokenizer
from tutti.request import Media, MediaInput

_MARGIN = 2  # newlines before and after a picture


class Reader:
    """Implements `models.processor.media.MediaReader`.

    Where a picture begins, the prompt gets a paragraph: newlines, the mark of its beginning, its tokens, the mark of
    its end, newlines. Newlines beside it are tokenized together with the paragraph's, as if the text had had them.
    """

    modalities = frozenset({"image"})

    def __init__(
        self, side: int, marks: tuple[int, int], placeholder: int, count: int, newlines: Newlines
    ) -> None:
        """`side` in pixels; `marks` begin and end a picture, between them are `count` tokens `placeholder`."""
        self.side = side
        self.marks = marks
        self.placeholder = placeholder
        self.count = count
        self.newlines = newlines

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`: a picture as pixels uint8 [side, side, 3]."""
        picture = resize(read_image(medium.data), self.side, self.side, filter="bilinear")
        return ReadMedium("image", {"pixels": array(picture)}, self.count)

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        begin, end = self.marks
        if ids.count(begin) != len(media):
            raise InvalidRequest(
                f"the prompt has {ids.count(begin)} places for pictures, but {len(media)} were given",
                param="prompt",
            )
        grown: list[int] = []
        spans: list[tuple[int, int]] = []
        owed = 0  # newlines that the last picture's paragraph ends with
        for token in ids:
            lines = self.newlines.length(token)
            if lines and owed:  # they stand right behind a picture
                owed += lines
                continue
            if token != begin:
                grown += [*self.newlines.tokens(owed), token]
                owed = 0
                continue
            while grown and (lines := self.newlines.length(grown[-1])):
                owed += lines
                grown.pop()
            grown += [*self.newlines.tokens(owed + _MARGIN), begin]
            spans.append((len(grown), self.count))
            grown += [*[self.placeholder] * self.count, end]
            owed = _MARGIN
        grown += self.newlines.tokens(owed)
        return grown, [replace(one.at((span,)), mutual=True) for one, span in zip(media, spans, strict=True)]


class Newlines:
    """How the tokenizer in `folder` writes newlines in a row. It is loaded when the first picture comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder)

    @cached_property
    def _lengths(self) -> dict[int, int]:
        """The tokens that are nothing but newlines, and how many."""
        found: dict[int, int] = {}
        count = 1
        while len(tokens := self.tokens(count)) == 1:
            found[tokens[0]] = count
            count += 1
        return found

    def tokens(self, count: int) -> Sequence[int]:
        """The tokens of `count` newlines."""
        return self._tokenizer.encode("\n" * count, False) if count else ()

    def length(self, token: int) -> int:
        """How many newlines `token` is; 0 when it is anything else."""
        return self._lengths.get(token, 0)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`. Raises CheckpointError when it wants pictures otherwise."""
    settings = image_settings(folder)
    side = vision_config(config)["image_size"]
    size = settings.get("size") or {"height": side, "width": side}
    if (size.get("height"), size.get("width")) != (side, side):
        raise CheckpointError(
            f"{folder}: pictures are resized to {size}, but the vision tower takes {side} pixels"
        )
    if settings.get("do_pan_and_scan"):
        raise CheckpointError(f"{folder}: do_pan_and_scan is not supported; pictures are seen whole")
    marks = config.get("boi_token_index", 255_999), config.get("eoi_token_index", 256_000)
    placeholder = config.get("image_token_index", 262_144)
    return Reader(side, marks, placeholder, picture_tokens(config), Newlines(folder))
