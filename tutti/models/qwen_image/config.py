"""What Qwen-Image's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.editor import Editor

TOKENS = 1024  # the longest prompt
PATCH = 2
_AREA = 1024 * 1024  # pixels that they draw and look at, more or less
_GLANCE = 384 * 384  # that the text encoder sees of each of several pictures
_MOST = 4  # pictures
_TOKEN = 28 * 28  # pixels that are a token of the text encoder, which sees a bit more where it rounds up


def edits(config: dict[str, Any]) -> bool:
    """Whether the model looks at pictures and draws what the prompt makes of them."""
    return str(config["architectures"][0]).startswith("QwenImageEdit")


def takes_several(config: dict[str, Any]) -> bool:
    """Whether it looks at several pictures, which the prompt may call by their numbers."""
    return bool(config["architectures"][0] == "QwenImageEditPlusPipeline")


def tokens(config: dict[str, Any]) -> int:
    """The most that the text encoder reads, pictures included."""
    if not edits(config):
        return TOKENS
    seen = _MOST * _GLANCE if takes_several(config) else _AREA
    return TOKENS + int(1.1 * seen / _TOKEN)


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", tokens(config))


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
    return describe.vae_shape(config, widths="base_dim")


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked. The model is meant to be guided away from an empty text, which is a space."""
    habits: dict[str, Any] = {
        "multiple": PATCH * describe.vae_pixels(config),
        "longest": 4096,
        "steps": 50,
        "true_guidance": 4.0,
        "avoid": " ",
    }
    if takes_several(config):
        return Editor(**{**habits, "steps": 40}, most=_MOST, glance=_GLANCE)
    return Editor(**habits) if edits(config) else Drawer(**habits)
