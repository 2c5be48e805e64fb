"""Qwen3-VL's configuration: Qwen3's decoder, dense or with experts, with a rope of three interleaved axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.layers.config import RopeConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2_vl.config import PATCHES_A_STEP
from tutti.models.qwen3 import config as qwen3
from tutti.models.qwen3_moe import config as qwen3_moe
from tutti.models.reading import Config

_SECTIONS = (24, 20, 20)  # frequencies of time, height and width, where the configuration is silent
_DEEP_LAYERS = (8, 16, 24)  # likewise, the tower's layers that speak to the decoder's first ones


def has_experts(config: Config) -> bool:
    """Whether the language model is a mixture of experts."""
    return "moe_intermediate_size" in reading.require(config, "text_config")


def text_config(config: Config) -> dict[str, Any]:
    """The language model's section. Its experts' weights always sum to one; whether it is tied is said above it."""
    text = {"rope_theta": 500_000.0} | dict(reading.require(config, "text_config"))
    tied = bool(config.get("tie_word_embeddings", False))
    return text | {"norm_topk_prob": True, "tie_word_embeddings": tied}


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    text = text_config(config)
    family = qwen3_moe if has_experts(config) else qwen3
    decoder = family.decoder_config(text)
    ropes = tuple(replace(rope, axes=interleaved_axes(text, rope)) for rope in decoder.ropes)
    return replace(decoder, ropes=ropes, deepstack=len(deep_layers(config)))


def interleaved_axes(text: Config, rope: RopeConfig) -> tuple[int, ...]:
    """The axis of each frequency: time, height and width in turn as far as `mrope_section` goes, then time."""
    lengths = reading.rope_values(text).get("mrope_section") or _SECTIONS
    return tuple(
        place % 3 if place < 3 * lengths[place % 3] else 0  # 0 is time, whatever its section says
        for place in range(rope.dim // 2)
    )


def deep_layers(config: Config) -> tuple[int, ...]:
    """The tower's layers whose features are added to the hidden states after the decoder's first layers."""
    return tuple(vision_config(config).get("deepstack_visual_indexes", _DEEP_LAYERS))


def describe(config: Config) -> StageShape:
    """The language model's shape, for the memory plan."""
    return stage_shape(decoder_config(config))


def vision_config(config: Config) -> Mapping[str, Any]:
    """The vision tower's section."""
    section: Mapping[str, Any] = reading.require(config, "vision_config")
    return section


def describe_vision(config: Config) -> StageShape:
    """The vision tower's shape, for the memory plan."""
    vision = vision_config(config)
    return StageShape(
        (), 0, vision.get("hidden_size", 1152), vision.get("intermediate_size", 4304), 0, PATCHES_A_STEP
    )
