"""Qwen3-Omni's configuration: three decoders of Qwen3's kind, two with experts, and the shapes of the others."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, MixtureConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2_5_omni.config import FRAMES_A_STEP, part
from tutti.models.qwen2_vl.config import PATCHES_A_STEP
from tutti.models.qwen3 import config as qwen3
from tutti.models.qwen3_moe import config as qwen3_moe
from tutti.models.qwen3_vl.config import interleaved_axes
from tutti.models.reading import Config

CODES_A_STEP = 64  # frames of codes that become sound together, of all answers; 12.5 a second
SPECIAL_CODES = 1024  # at the end of the talker's vocabulary, which are never said


def thinker_config(config: Config) -> DecoderConfig:
    """The thinker's decoder, to whose first layers the tower's inner layers speak."""
    text = part(config, "thinker_config", "text_config")
    decoder = _with_axes(text, qwen3_moe.decoder_config(text))
    vision = part(config, "thinker_config", "vision_config")
    deep = vision.get("deepstack_visual_indexes", (8, 16, 24))
    return replace(decoder, deepstack=len(deep))


def talker_config(config: Config) -> DecoderConfig:
    """The talker's decoder: every layer has experts, and one more that every token passes as far as it wants."""
    text = part(config, "talker_config", "text_config")
    decoder = _with_axes(text, qwen3_moe.decoder_config(text))
    routed = qwen3_moe.mixture_config(text)
    shared = FeedForwardConfig(
        reading.require(text, "shared_expert_intermediate_size"), reading.activation(text, "hidden_act")
    )
    mixture = MixtureConfig(routed.router, routed.expert, shared, shared_gate=True)
    layers = tuple(replace(layer, feed_forward=mixture) for layer in decoder.layers)
    return replace(decoder, layers=layers, tied=False)


def predictor_config(config: Config) -> DecoderConfig:
    """The decoder that makes the further codes of a frame, one after the other."""
    return qwen3.decoder_config(part(config, "talker_config", "code_predictor_config"))


def _with_axes(text: Config, decoder: DecoderConfig) -> DecoderConfig:
    return replace(
        decoder, ropes=tuple(replace(rope, axes=interleaved_axes(text, rope)) for rope in decoder.ropes)
    )


def upsampling(config: Config) -> int:
    """The samples of sound that a frame of codes becomes."""
    section = part(config, "code2wav_config")
    return prod((*section.get("upsampling_ratios", (2, 2)), *section.get("upsample_rates", (8, 5, 4, 3))))


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
    width, inner = vision.get("hidden_size", 1152), vision.get("intermediate_size", 4304)
    return StageShape((), 0, width, inner, 0, PATCHES_A_STEP)


def describe_code2wav(config: Config) -> StageShape:
    """See `Stage.describe`; widest are the last convolutions, which have all samples of a frame of codes."""
    section = part(config, "code2wav_config")
    channels = section.get("decoder_dim", 1536) >> len(section.get("upsample_rates", (8, 5, 4, 3)))
    return StageShape((), 0, channels * upsampling(config), 0, 0, CODES_A_STEP)
