"""Pictures of every common form become RGB as a viewer shows them; bad files are a typed error that says what to do."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.media import files
from tutti.errors import InvalidMedia
from tutti.media.image import read_image, resize, write_png

PICTURE = files.picture()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_lossless_formats_give_the_pixels_that_were_saved(format: str) -> None:
    options = {"irreversible": False} if format == "JPEG2000" else {}
    assert (read_image(files.saved(Image.fromarray(PICTURE), format, **options)) == PICTURE).all()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_other_formats_give_what_pillow_gives(format: str) -> None:
    data = files.saved(Image.fromarray(PICTURE), format)
    made = read_image(data)
    assert made.dtype == np.uint8 and made.shape == PICTURE.shape
    assert np.abs(made.astype(int) - PICTURE).mean() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = read_image(files.saved(Image.fromarray(PICTURE), "PNG", exif=exif))
    turned = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, -1),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PICTURE),
    }
    assert (seen == turned[orientation]).all()


def test_a_turned_tiff_is_turned_once() -> None:
    data = files.saved(Image.fromarray(PICTURE), "TIFF", tiffinfo={0x0112: 6})
    assert (read_image(data) == np.rot90(PICTURE, -1)).all()


def test_scrambled_exif_does_not_spoil_a_picture() -> None:
    data = files.saved(Image.fromarray(PICTURE), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert (read_image(data) == PICTURE).all()


def test_what_is_transparent_is_white() -> None:
    alpha = np.zeros((6, 9), np.uint8)
    alpha[:3] = 255
    seen = read_image(files.saved(Image.fromarray(np.dstack([PICTURE, alpha])), "PNG"))
    assert (seen[:3] == PICTURE[:3]).all() and (seen[3:] == 255).all()
    grey = np.dstack([np.full((2, 2), 100, np.uint8), np.full((2, 2), 51, np.uint8)])  # a fifth of it shows
    assert (read_image(files.saved(Image.fromarray(grey, "LA"), "PNG")) == 224).all()


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read_image(files.saved(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read_image(files.saved(image, "PNG", transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]


def test_sixteen_bits_keep_the_upper_eight() -> None:
    values = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], np.uint16)
    for format in ("PNG", "TIFF"):
        assert read_image(files.saved(Image.fromarray(values), format))[..., 0].tolist() == [
            [0, 0, 1, 127, 255]
        ]


@pytest.mark.parametrize(
    ("mode", "format", "colour", "rgb"),
    [
        ("1", "PNG", 1, (255, 255, 255)),
        ("L", "PNG", 77, (77, 77, 77)),
        ("CMYK", "TIFF", (255, 0, 0, 0), (0, 255, 255)),
        ("CMYK", "JPEG", (0, 0, 255, 0), (255, 255, 0)),
    ],
)
def test_other_modes(mode: str, format: str, colour: int | tuple[int, ...], rgb: tuple[int, ...]) -> None:
    seen = read_image(files.saved(Image.new(mode, (16, 16), colour), format))
    assert np.abs(seen.reshape(-1, 3).astype(int) - rgb).max() <= 2


def test_floating_point_values_are_refused_with_a_reason() -> None:
    with pytest.raises(InvalidMedia, match="floating-point"):
        read_image(files.saved(Image.new("F", (2, 2), 0.5), "TIFF"))


def test_of_an_animation_the_first_frame_is_seen() -> None:
    assert (read_image(files.animation("GIF")) == 0).all()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 20_000, 2_000_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(InvalidMedia, match=r"pixels|exceeds limit"):
        read_image(png_that_claims(side, side))


def test_the_limit_on_pixels_names_both_numbers() -> None:
    with pytest.raises(InvalidMedia, match="9 x 6, 54 pixels; at most 53"):
        read_image(files.saved(Image.fromarray(PICTURE), "PNG"), most_pixels=53)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_truncated_file_is_broken(format: str) -> None:
    data = files.saved(Image.fromarray(files.picture(100, 100)), format)
    with pytest.raises(InvalidMedia, match="broken or cut short"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"%PDF-1.7 ...", "this is a PDF document, not a picture; send a whole PNG"),
        (b"<html>404</html>", "an HTML page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "plain text"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InvalidMedia, match=words):
        read_image(data)


ORIGINALS = [
    files.saved(Image.fromarray(PICTURE), format)
    for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
]


@given(st.sampled_from(ORIGINALS), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8))
def test_damaged_files_raise_nothing_else(data: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        seen = read_image(bytes(damaged), most_pixels=1_000_000)
    except InvalidMedia:
        return
    assert seen.ndim == 3 and seen.shape[2] == 3 and seen.dtype == np.uint8


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidMedia):
        read_image(data)


def test_resizing_is_pillows_bicubic() -> None:
    for size in ((3, 4), (28, 56), (6, 9)):
        expected = Image.fromarray(PICTURE).resize(size[::-1], Image.Resampling.BICUBIC)
        assert (resize(PICTURE, *size) == np.asarray(expected)).all()


def test_a_written_png_is_read_back() -> None:
    assert (read_image(write_png(PICTURE)) == PICTURE).all()
    assert (read_image(write_png(PICTURE[..., 0])) == PICTURE[..., :1]).all()
