"""The shape of Gemma 3's eyes. The language model's configuration is `gemma3`'s."""

from __future__ import annotations

from typing import Any

from tutti.graph import StageShape
from tutti.models import reading
from tutti.models.reading import Config

PATCHES_A_STEP = 16_384  # of all pictures that the tower computes together

# What published configurations leave out, because it is the class's default.
_DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "image_size": 224, "patch_size": 16}


def vision_config(config: Config) -> dict[str, Any]:
    """The tower's section, complete."""
    return _DEFAULTS | dict(reading.require(config, "vision_config"))


def picture_tokens(config: Config) -> int:
    """How many tokens a picture fills."""
    return int(config.get("mm_tokens_per_image", 256))


def describe_vision(config: Config) -> StageShape:
    """The vision tower's shape, for the memory plan."""
    vision = vision_config(config)
    return StageShape((), 0, vision["hidden_size"], vision["intermediate_size"], 0, PATCHES_A_STEP)
