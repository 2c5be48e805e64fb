"""What Stable Diffusion XL's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer

TOKENS = 77  # that the CLIPs pad a prompt to
PATCH = 2  # latents of a side that are counted as one token; the network halves sides more than once


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the larger of the text encoders."""
    return describe.encoder_shape(config, "text_encoder_2", TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the UNet: its first blocks see every latent, its last ones are wide."""
    widths = value(config, "unet", "block_out_channels")
    kept = 2 * TOKENS * int(value(config, "unet", "cross_attention_dim"))
    return describe.network_shape(PATCH**2 * int(widths[0]), 4 * int(widths[-1]), kept=kept)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    return describe.vae_shape(config)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked."""
    turbo = "turbo" in name.lower()
    side = 512 if turbo else 1024
    return Drawer(
        multiple=PATCH * describe.vae_pixels(config),
        longest=4096,
        width=side,
        height=side,
        steps=1 if turbo else 50,
        guidance=0.0 if turbo else 5.0,
        guides=True,
        neutral=1.0,
        avoid="",
        caches=(),
    )
