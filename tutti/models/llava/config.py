"""LLaVA's configuration: which language model answers, which tower sees, and how many tokens a picture's tile fills.

Published configurations leave out what is the default of their section's class, so the defaults stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.llama import config as llama
from tutti.models.mistral import config as mistral
from tutti.models.qwen2 import config as qwen2
from tutti.models.reading import Config

PATCHES_A_STEP = 16_384  # of all pictures that the tower computes together

_LANGUAGE: dict[str, Callable[[Config], DecoderConfig]] = {
    "llama": llama.decoder_config,
    "mistral": mistral.decoder_config,
    "qwen2": qwen2.decoder_config,
}
_LARGE = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32_000}
_LANGUAGE_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _LARGE | {"intermediate_size": 11_008, "max_position_embeddings": 2048},
    "mistral": _LARGE
    | {
        "intermediate_size": 14_336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
    "qwen2": _LARGE | {"vocab_size": 151_936, "intermediate_size": 22_016, "max_position_embeddings": 32_768},
}
_VISION_DEFAULTS: dict[str, dict[str, int]] = {
    "clip_vision_model": {"hidden_size": 768, "intermediate_size": 3072, "image_size": 224, "patch_size": 32},
    "siglip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 16,
    },
}
_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


@dataclass(frozen=True, slots=True)
class TileConfig:
    """The square tiles that the tower sees: of `pixels` by `pixels`, in `side` by `side` patches.

    `layers` are those whose hidden states the projector takes, side by side; `skipped` is how many rows of a tile come
    before those that are taken, `rows` how many are. `sizes` (height, width) in pixels are the canvases on which a
    picture is spread in tiles of its own resolution beside the whole in one tile; None: there is only the whole.
    """

    pixels: int
    side: int
    layers: tuple[int, ...]
    skipped: int
    rows: int
    sizes: tuple[tuple[int, int], ...] | None


def text_config(config: Config) -> dict[str, Any]:
    """The language model's section, complete. Raises CheckpointError when no family here speaks its language."""
    given = dict(reading.require(config, "text_config"))
    kind = given.setdefault("model_type", "llama")
    if kind not in _LANGUAGE:
        raise CheckpointError(
            f"config.json: text_config has model_type {kind!r}, which is not supported; "
            f"known: {', '.join(_LANGUAGE)}"
        )
    given["tie_word_embeddings"] = bool(config.get("tie_word_embeddings") or given.get("tie_word_embeddings"))
    return _LANGUAGE_DEFAULTS[kind] | given


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    text = text_config(config)
    return _LANGUAGE[text["model_type"]](text)


def describe(config: Config) -> StageShape:
    """The language model's shape, for the memory plan."""
    return stage_shape(decoder_config(config))


def vision_config(config: Config) -> dict[str, Any]:
    """The tower's section, complete. Raises CheckpointError when it is of an unknown kind."""
    given = dict(reading.require(config, "vision_config"))
    kind = given.setdefault("model_type", "clip_vision_model")
    if kind not in _VISION_DEFAULTS:
        raise CheckpointError(
            f"config.json: vision_config has model_type {kind!r}, which is not supported; "
            f"known: {', '.join(_VISION_DEFAULTS)}"
        )
    return _VISION_DEFAULTS[kind] | given


def tile_config(config: Config) -> TileConfig:
    """How pictures become tiles and tiles rows. Raises CheckpointError."""
    vision = vision_config(config)
    side = vision["image_size"] // vision["patch_size"]
    layers = config.get("vision_feature_layer", -2)
    summary = vision["model_type"] == "clip_vision_model"  # its first row stands for the whole tile
    skipped = 1 if config.get("vision_feature_select_strategy", "default") == "default" else 0
    rows = side * side + summary - skipped
    sizes = None
    if config.get("model_type") == "llava_next":
        sizes = tuple((height, width) for height, width in config.get("image_grid_pinpoints") or _PINPOINTS)
        if rows != side * side:
            raise CheckpointError(
                f"config.json: vision_feature_select_strategy leaves {rows} rows of a tile of {side} x {side} "
                "patches, which cannot be laid out as a picture"
            )
    layers = tuple(layers) if isinstance(layers, list) else (layers,)
    return TileConfig(vision["image_size"], side, layers, skipped, rows, sizes)


def describe_vision(config: Config) -> StageShape:
    """The vision tower's shape, for the memory plan."""
    vision = vision_config(config)
    return StageShape((), 0, vision["hidden_size"], vision["intermediate_size"], 0, PATCHES_A_STEP)
