"""What Qwen-Image's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer

TOKENS = 1024  # the longest prompt
PATCH = 2


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer."""
    heads, size = (
        value(config, "transformer", name) for name in ("num_attention_heads", "attention_head_dim")
    )
    width = int(heads) * int(size)
    kept = 2 * TOKENS * int(value(config, "transformer", "joint_attention_dim"))
    return describe.network_shape(width, 4 * width, kept=kept)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    return describe.vae_shape(config, widths="base_dim")


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked. The model is meant to be guided away from an empty text, which is a space."""
    return Drawer(
        multiple=PATCH * describe.vae_pixels(config),
        longest=4096,
        steps=50,
        true_guidance=4.0,
        avoid=" ",
    )
