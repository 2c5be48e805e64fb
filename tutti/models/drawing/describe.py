"""What the memory plan must know of the stages of a model that draws, from its configuration alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing.parts import component, value

VAE_ROWS = 128 * 128  # latents decoded in one piece: a picture of 1024 x 1024 pixels where a latent is 8 wide
PROMPTS = 4  # that are encoded in one step


def encoder_shape(config: Mapping[str, Any], name: str, tokens: int) -> StageShape:
    """Of the text encoder `name`, which reads at most so many `tokens`."""
    settings = component(config, name)
    settings = settings.get("text_config") or settings
    hidden = int(settings.get("hidden_size") or settings.get("d_model") or 0)
    widest = int(settings.get("intermediate_size") or settings.get("d_ff") or 4 * hidden)
    return StageShape((), 0, hidden, widest, 0, rows=PROMPTS * tokens)


def network_shape(hidden: int, intermediate: int, *, kept: int) -> StageShape:
    """Of the denoiser; `kept` are the numbers that a request keeps besides its latents (its conditions)."""
    return StageShape((), 0, hidden, intermediate, 0, memory=kept)


def vae_shape(config: Mapping[str, Any], *, widths: str = "block_out_channels") -> StageShape:
    """Of the VAE: its widest moment is at the picture's full size, `pixels` squared for each latent."""
    channels = value(config, "vae", widths)
    first = channels[0] if isinstance(channels, list) else channels
    return StageShape((), 0, vae_pixels(config) ** 2 * int(first), 0, 0, rows=VAE_ROWS)


def vae_pixels(config: Mapping[str, Any]) -> int:
    """How many pixels wide a latent is."""
    settings = component(config, "vae")
    if settings.get("scale_factor_spatial"):
        return int(settings["scale_factor_spatial"])
    if "block_out_channels" in settings:
        return int(2 ** (len(settings["block_out_channels"]) - 1))
    return int(2 ** len(settings.get("temperal_downsample") or (0, 0, 0)))
