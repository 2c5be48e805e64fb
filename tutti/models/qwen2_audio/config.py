"""Qwen2-Audio's configuration: Qwen2's decoder, and an encoder of Whisper's kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutti.graph import StageShape
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2 import config as qwen2
from tutti.models.reading import Config
from tutti.models.whisper.config import describe_encoder


def decoder_config(config: Config) -> DecoderConfig:
    """The language model."""
    return qwen2.decoder_config(reading.require(config, "text_config"))


def describe(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return stage_shape(decoder_config(config))


def audio_config(config: Config) -> Mapping[str, Any]:
    """The encoder's section."""
    section: Mapping[str, Any] = reading.require(config, "audio_config")
    return section


def describe_audio(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return describe_encoder(audio_config(config))
