"""What Z-Image's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer

TOKENS = 512  # the longest prompt
PATCH = 2


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer."""
    width = value(config, "transformer", "dim")
    return describe.network_shape(width, int(width / 3 * 8) + 2 * width, kept=2 * TOKENS * width)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    return describe.vae_shape(config)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked. A distilled model (Turbo) takes few steps and no guidance: no file says so, its name does."""
    turbo = "turbo" in name.lower()
    longest = min(value(config, "transformer", "axes_lens")[1:])  # positions, in patches
    multiple = PATCH * describe.vae_pixels(config)
    return Drawer(
        multiple=multiple,
        longest=longest * multiple,
        steps=9 if turbo else 50,
        guidance=0.0 if turbo else 5.0,
        guides=True,
        avoid="",
    )
