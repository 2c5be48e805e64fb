"""Llama 3.2 Vision's configuration: Llama's, the layers between that look at pictures, and the tiles of a picture.

Published configurations may leave out what is the default of their section's class, so the defaults stand here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tutti.graph import StageShape
from tutti.layers.config import AttentionConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.llama import config as llama
from tutti.models.reading import Config
from tutti.models.standard import rms_norm

MOST_PICTURES = 4  # in one request; so many does the memory plan count
PICTURES_A_STEP = 2  # that the tower computes together
EXTRA_TOKENS = (
    8  # rows that the table of embeddings has beyond the vocabulary; the picture's token is the first
)

_TEXT = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131_072,
    "rope_theta": 500_000.0,
    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
}
_VISION = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "image_size": 448,
    "patch_size": 14,
    "max_num_tiles": 4,
    "vision_output_dim": 7680,
}


@dataclass(frozen=True, slots=True)
class TileConfig:
    """A picture lies on at most `most` square tiles of `pixels` by `pixels`; the tower gives `rows` rows of each."""

    pixels: int
    most: int
    rows: int


@dataclass(frozen=True, slots=True)
class SightConfig:
    """The layers that look at pictures: at `layers`, counted among all, with grouped-query `attention`."""

    layers: tuple[int, ...]
    attention: AttentionConfig

    @property
    def row(self) -> int:
        """Numbers in the keys and values of one row, in all layers."""
        return 2 * len(self.layers) * self.attention.kv_heads * self.attention.head_dim


def text_config(config: Config) -> dict[str, Any]:
    """The language model's section, complete."""
    return _TEXT | dict(reading.require(config, "text_config"))


def vision_config(config: Config) -> dict[str, Any]:
    """The tower's section, complete."""
    return _VISION | dict(reading.require(config, "vision_config"))


def sight_config(config: Config) -> SightConfig:
    """The layers between that config.json describes."""
    text = text_config(config)
    attention = llama.decoder_config(text).layers[0].attention
    assert isinstance(attention, AttentionConfig)
    return SightConfig(
        tuple(text["cross_attention_layers"]), replace(attention, rope=None, qk_norm=rms_norm(text))
    )


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder without the layers between, that config.json describes."""
    text = text_config(config)
    own = text["num_hidden_layers"] - len(text["cross_attention_layers"])
    return replace(llama.decoder_config(text | {"num_hidden_layers": own}), tied=False)


def tile_config(config: Config) -> TileConfig:
    """How pictures become tiles and tiles rows: a row for each patch, and one for the whole tile."""
    vision = vision_config(config)
    side = vision["image_size"] // vision["patch_size"]
    return TileConfig(vision["image_size"], vision["max_num_tiles"], side * side + 1)


def describe(config: Config) -> StageShape:
    """The language model's shape, for the memory plan."""
    tiles = tile_config(config)
    memory = MOST_PICTURES * tiles.most * tiles.rows * sight_config(config).row
    return replace(stage_shape(decoder_config(config)), memory=memory)


def describe_vision(config: Config) -> StageShape:
    """The vision tower's shape, for the memory plan."""
    vision, tiles = vision_config(config), tile_config(config)
    rows = PICTURES_A_STEP * tiles.most * tiles.rows
    return StageShape((), 0, vision["hidden_size"], vision["intermediate_size"], 0, rows)
