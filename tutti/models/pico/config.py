"""What pico's configuration says of its pictures to the memory plan and to the doors. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from tutti.graph import StageShape
from tutti.models import reading
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer
from tutti.models.reading import Config
from tutti.models.z_image import config as z_image

_AT_ONCE = 16  # pictures in a step of the VAE
_CAPTION = 32  # rows are padded to a multiple of so many
_ASKS = re.compile(r"\b(draw|paint|sketch|picture|drawing|painting|image)\b|[画绘图]", re.IGNORECASE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class DrawingConfig:
    """The section `drawing` of config.json: habits of sampling, the side of a picture in pixels, the token that is the
    sign of a picture, and the most rows of an answer that the painter looks at.
    """

    steps: int
    guidance: float
    size: int
    sign: str
    rows: int


def drawing_config(config: Config) -> DrawingConfig:
    """The section. Raises CheckpointError where something is missing."""
    section = reading.require(config, "drawing")
    return DrawingConfig(
        int(reading.require(section, "steps")),
        float(reading.require(section, "guidance")),
        int(reading.require(section, "size")),
        str(reading.require(section, "sign")),
        int(reading.require(section, "rows")),
    )


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the painter: Z-Image's transformer, for pictures of one size."""
    settings = drawing_config(config)
    caption = -(-settings.rows // _CAPTION) * _CAPTION
    patches = (settings.size // (z_image.PATCH * describe.vae_pixels(config))) ** 2
    patches = -(-patches // _CAPTION) * _CAPTION
    shape = z_image.describe_denoiser(config)
    kept = 2 * caption * int(value(config, "transformer", "dim"))
    return replace(shape, rows=2 * (patches + caption), memory=kept)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    latents = (drawing_config(config).size // describe.vae_pixels(config)) ** 2
    return replace(describe.vae_shape(config), rows=_AT_ONCE * latents)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked."""
    settings = drawing_config(config)
    return Drawer(
        multiple=z_image.PATCH * describe.vae_pixels(config),
        longest=settings.size,
        steps=settings.steps,
        guidance=settings.guidance,
        guides=True,
        width=settings.size,
        height=settings.size,
        told=told,
    )


def told(prompt: str) -> str:
    """`prompt`, which says what is in a picture, as a request to draw it; one that is a request stays as it is."""
    if _ASKS.search(prompt):
        return prompt
    return f"画{prompt}" if _CHINESE.search(prompt) else f"draw {prompt}"
