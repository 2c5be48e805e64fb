"""Qwen2-VL's configuration: Qwen2's decoder with a rope of three axes, and the vision tower's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.layers.config import RopeConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2 import config as qwen2
from tutti.models.reading import Config

PATCHES_A_STEP = 4_096  # of all pictures that the tower computes together, if they are smaller


def text_config(config: Config) -> dict[str, Any]:
    """The language model's configuration: its own section, or (as published before transformers 4.52) the whole."""
    text = dict(config.get("text_config") or config)
    text.setdefault("tie_word_embeddings", config.get("tie_word_embeddings", False))
    return text


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    text = text_config(config)
    decoder = qwen2.decoder_config(text)
    ropes = tuple(replace(rope, axes=sections(text, rope)) for rope in decoder.ropes)
    return replace(decoder, ropes=ropes)


def sections(text: Config, rope: RopeConfig) -> tuple[int, ...]:
    """The axis of each frequency: the first `mrope_section[0]` turn with time, the next with height, then width.

    Further lengths begin with time again.
    """
    values = text.get("rope_parameters") or text.get("rope_scaling") or {}
    lengths = values.get("mrope_section") or (16, 24, 24)
    return tuple(part % 3 for part, length in enumerate(lengths) for _ in range(length))[: rope.dim // 2]


def describe(config: Config) -> StageShape:
    """The language model's shape, for the memory plan."""
    return stage_shape(decoder_config(config))


def vision_config(config: Config) -> Mapping[str, Any]:
    """The vision tower's section."""
    return reading.require(config, "vision_config")


def describe_vision(config: Config) -> StageShape:
    """The vision tower's shape, for the memory plan."""
    vision = vision_config(config)
    width = vision.get("embed_dim") or vision.get("hidden_size") or 1280
    intermediate = vision.get("intermediate_size") or int(width * vision.get("mlp_ratio", 4))
    return StageShape((), 0, width, intermediate, 0, PATCHES_A_STEP)
