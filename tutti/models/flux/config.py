"""What FLUX.1's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import component, value
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.editor import Editor

PATCH = 2
_NARROW = (  # what Kontext was trained with, besides squares and what is wider than high
    *((672, 1568), (688, 1504), (720, 1456), (752, 1392)),
    *((800, 1328), (832, 1248), (880, 1184), (944, 1104)),
)
_SIZES = (*_NARROW, (1024, 1024), *((height, width) for width, height in _NARROW))


def edits(config: dict[str, Any]) -> bool:
    """Whether the model looks at a picture and draws what the prompt makes of it."""
    return bool(config["architectures"][0] == "FluxKontextPipeline")


def told_guidance(config: dict[str, Any]) -> bool:
    """Whether the network is told a scale of guidance (dev); the other (schnell) was distilled to few steps as well."""
    return bool(component(config, "transformer").get("guidance_embeds", False))


def tokens(config: dict[str, Any]) -> int:
    """The tokens that a prompt is padded to, which the network was trained with."""
    return 512 if told_guidance(config) else 256


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the larger of the two text encoders."""
    return describe.encoder_shape(config, "text_encoder_2", tokens(config))


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer."""
    heads, size = (
        value(config, "transformer", name) for name in ("num_attention_heads", "attention_head_dim")
    )
    width = int(heads) * int(size)
    kept = 2 * tokens(config) * int(value(config, "transformer", "joint_attention_dim"))
    return describe.network_shape(width, 4 * width, kept=kept)


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE."""
    return describe.vae_shape(config)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked."""
    told = told_guidance(config)
    habits: dict[str, Any] = {
        "multiple": PATCH * describe.vae_pixels(config),
        "longest": 4096,
        "steps": 28 if told else 4,
        "guidance": 3.5 if told else None,
        "true_guidance": 4.0,  # where a negative prompt is given
    }
    return Editor(**habits, needs=False, glance=0, sizes=_SIZES) if edits(config) else Drawer(**habits)
