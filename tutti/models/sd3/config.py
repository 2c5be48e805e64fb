"""What Stable Diffusion 3's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer

TOKENS = 256  # that T5 pads a prompt to
CLIP_TOKENS = 77
PATCH = 2


def has_t5(config: dict[str, Any]) -> bool:
    """Whether the third text encoder, the large one, is among the files: the model draws without it, too."""
    return "text_encoder_3" in config["components"]


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the largest of the text encoders."""
    largest = "text_encoder_3" if has_t5(config) else "text_encoder_2"
    return describe.encoder_shape(config, largest, TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer."""
    heads, size = (
        value(config, "transformer", name) for name in ("num_attention_heads", "attention_head_dim")
    )
    width = int(heads) * int(size)
    kept = 2 * (TOKENS + CLIP_TOKENS) * int(value(config, "transformer", "joint_attention_dim"))
    return describe.network_shape(width, 4 * width, kept=kept)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    return describe.vae_shape(config)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked. A distilled model (Turbo) takes few steps and no guidance: no file says so, its name does."""
    turbo = "turbo" in name.lower()
    multiple = PATCH * describe.vae_pixels(config)
    return Drawer(
        multiple=multiple,
        longest=int(value(config, "transformer", "pos_embed_max_size")) * multiple,
        steps=4 if turbo else 28,
        guidance=1.0 if turbo else 7.0,
        guides=True,
        neutral=1.0,
        avoid="",
    )
