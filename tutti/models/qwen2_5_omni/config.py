"""Qwen2.5-Omni's configuration: two decoders of Qwen2's kind with ropes of three axes, and the shapes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2 import config as qwen2
from tutti.models.qwen2_vl.config import PATCHES_A_STEP, sections
from tutti.models.reading import Config

FRAMES_A_STEP = 3_000  # of all recordings that are heard together; 100 a second
CODES_A_STEP = 2_000  # that become sound together; 50 a second


def thinker_config(config: Config) -> DecoderConfig:
    """The thinker's decoder."""
    text = dict(reading.require(reading.require(config, "thinker_config"), "text_config"))
    return _with_axes(text)


def talker_config(config: Config) -> DecoderConfig:
    """The talker's decoder; what it embeds has the thinker's width (see `talker`)."""
    return replace(_with_axes(dict(reading.require(config, "talker_config"))), tied=False)


def _with_axes(section: dict[str, Any]) -> DecoderConfig:
    decoder = qwen2.decoder_config(section)
    return replace(
        decoder, ropes=tuple(replace(rope, axes=sections(section, rope)) for rope in decoder.ropes)
    )


def part(config: Config, *names: str) -> Mapping[str, Any]:
    """A section of a section of config.json."""
    for name in names:
        config = reading.require(config, name)
    return config


def describe_thinker(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return stage_shape(thinker_config(config))


def describe_talker(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return stage_shape(talker_config(config))


def describe_audio(config: Config) -> StageShape:
    """See `Stage.describe`."""
    audio = part(config, "thinker_config", "audio_config")
    return StageShape((), 0, audio.get("d_model", 1280), audio.get("encoder_ffn_dim", 5120), 0, FRAMES_A_STEP)


def describe_vision(config: Config) -> StageShape:
    """See `Stage.describe`."""
    vision = part(config, "thinker_config", "vision_config")
    return StageShape(
        (), 0, vision.get("hidden_size", 3584), vision.get("intermediate_size", 3420), 0, PATCHES_A_STEP
    )


def describe_token2wav(config: Config) -> StageShape:
    """See `Stage.describe`; a code is two frames of a spectrogram, computed with and without guidance."""
    dit = part(config, "token2wav_config", "dit_config")
    width = dit.get("hidden_size", 1024)
    return StageShape((), 0, width, width * dit.get("ff_mult", 2), 0, 4 * CODES_A_STEP)
