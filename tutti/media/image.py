"""Files to pictures and back. A picture is uint8 [height, width, 3], RGB.

What a picture means to a model (sizes, patches, normalization) is the model's own business. Animations are `video`'s.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.broken import reading

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 8192 * 8192
Filter = Literal["bicubic", "bilinear", "lanczos"]
ADVICE = "send a whole PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file"

# Of all that Pillow reads: what is in common use and read by Pillow itself (EPS, for one, would start Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112  # the EXIF tag


def read_image(data: bytes, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """The picture in a file of any common format, uint8 [height, width, 3], as a viewer would show it.

    Turned as its EXIF orientation says; transparent parts are white; of an animation, the first frame; of 16 bits, the
    upper eight. The size is checked before anything is decoded. Raises InvalidMedia.
    """
    with reading("picture", data, ADVICE), open_image(data, most_pixels) as image:
        image.load()
        return np.asarray(upright(flatten(image), image))


def read_mask(data: bytes, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """How much each pixel of a picture is meant by a mask's file, uint8 [height, width]: 255 wholly, 0 not at all.

    Transparent pixels are meant, as OpenAI has it; of a file without transparency white ones are, as most other
    programs have it. Raises InvalidMedia.
    """
    with reading("picture", data, ADVICE), open_image(data, most_pixels) as image:
        image.load()
        if image.has_transparency_data:
            return 255 - np.asarray(upright(image.convert("RGBA").getchannel("A"), image))
        return np.asarray(upright(flatten(image).convert("L"), image))


def open_image(data: bytes, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """The file as Pillow sees it, not decoded yet. Raises InvalidMedia if it is too large, and what Pillow raises."""
    from PIL import Image, features

    formats = _FORMATS if features.check("avif") else _FORMATS[:-1]
    image = Image.open(BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > most_pixels:
        raise InvalidMedia(
            f"the picture is {width} x {height}, {width * height:,} pixels; at most {most_pixels:,} are taken: "
            "make it smaller"
        )
    return image


def flatten(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, over white where it is transparent. Raises InvalidMedia."""
    from PIL import Image

    if image.mode == "F":
        raise InvalidMedia(
            "the picture has floating-point values, whose white is unknown; send one of 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits, in an integer of 16 or 32
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    """`picture` turned as the EXIF data of its `file` say; data that make no sense say nothing."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(file.getexif().get(_ORIENTATION) or 0)
    except Exception:  # noqa: BLE001 - as with any viewer, a scrambled note in the margin does not spoil the picture
        return picture
    return picture if turn is None else picture.transpose(turn)


def resize(image: np.ndarray, height: int, width: int, filter: Filter = "bicubic") -> np.ndarray:
    """`image` uint8 [rows, columns] or [rows, columns, 3] as [height, width, ...], by one of Pillow's filters."""
    from PIL import Image

    if image.shape[:2] == (height, width):
        return image
    kind = Image.Resampling[filter.upper()]
    return np.asarray(Image.fromarray(image).resize((width, height), kind))


NOTE = "tutti"  # the PNG text chunk that says, as JSON, how a picture was made


def write_png(image: np.ndarray, note: str = "") -> bytes:
    """A PNG file of `image`: uint8 [height, width] or [height, width, 3 or 4]; it carries the `note`, if any."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    if note:
        about.add_itxt(NOTE, note)
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG", pnginfo=about)
    return file.getvalue()


def read_note(png: bytes) -> str:
    """The note in a PNG file that `write_png` made; "" where there is none."""
    from PIL import Image

    with Image.open(BytesIO(png), formats=("PNG",)) as image:
        return str(image.info.get(NOTE, ""))


def as_pillow(png: bytes) -> Image.Image:
    """A PNG file as Pillow has it, read whole; its `info` has the note."""
    from PIL import Image

    image = Image.open(BytesIO(png), formats=("PNG",))
    image.load()
    return image


def transcode(png: bytes, format: str, quality: int = 90) -> bytes:
    """The PNG file as "webp" or "jpeg" of `quality` 0 to 100, which carry no note; as it is for "png"."""
    from PIL import Image

    if format == "png":
        return png
    file = BytesIO()
    with Image.open(BytesIO(png), formats=("PNG",)) as image:
        image.convert("RGB").save(file, format.upper(), quality=quality)
    return file.getvalue()
