"""The one place where what a decoder says of a bad file becomes an `InvalidMedia` in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tutti.errors import InvalidMedia, TuttiError
from tutti.media.kind import describe, sniff

_LONGEST = 200  # characters of a decoder's own words


@contextmanager
def reading(noun: str, data: bytes, advice: str) -> Iterator[None]:
    """Around the decoding of `data`, which is meant to be a `noun` ("picture"); `advice` is what to send instead.

    Decoders that are fed hostile bytes raise nearly anything (Pillow alone: OSError, SyntaxError, ValueError,
    struct.error, zlib.error, MemoryError ...), so everything is caught, and raised as InvalidMedia.
    """
    if not data:
        raise InvalidMedia(f"the {noun} is an empty file; {advice}")
    try:
        yield
    except TuttiError:
        raise
    except Exception as error:
        if not _could_be(noun, data):
            raise InvalidMedia(f"this is {describe(data)}, not a {noun}; {advice}") from error
        words = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        raise InvalidMedia(f"the {noun} is broken or cut short ({words}); {advice}") from error


def _could_be(noun: str, data: bytes) -> bool:
    """Whether the first bytes are those of such a file."""
    kind = sniff(data)
    if kind is None or kind in ("image/heic", "image/svg+xml", "image/x-icon", "image/vnd.adobe.photoshop"):
        return False
    family = kind.partition("/")[0]
    if noun == "picture":
        return family == "image"
    return family in ("audio", "video") or kind in ("application/ogg", "image/gif", "image/webp")
