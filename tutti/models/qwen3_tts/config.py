"""Qwen3-TTS' configuration: two decoders of Qwen3's kind, the voices, and the shapes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3 import config as qwen3
from tutti.models.reading import Config, require

TOKENS_A_STEP = 8192  # of all texts that are read together
FRAMES_A_STEP = 64  # of codes that become sound together; 12.5 a second
_WIDEST = 96 * 1920  # numbers of the codec's last convolutions for a frame, in the published shape


def talker_config(config: Config) -> DecoderConfig:
    """The talker's decoder. Its positions are the same on all axes, so that its rope is an ordinary one."""
    kind = config.get("tts_model_type", "custom_voice")
    if kind not in ("custom_voice", "voice_design"):
        raise CheckpointError(
            f"config.json: a Qwen3-TTS of the kind {kind!r}, which takes its voice from a recording, is not served; "
            "take a CustomVoice or VoiceDesign checkpoint"
        )
    section = dict(part(config, "talker_config"))
    section.pop("rope_scaling", None)
    return qwen3.decoder_config(section | {"tie_word_embeddings": False})


def predictor_config(config: Config) -> DecoderConfig:
    """The decoder that makes the further codes of a frame, one after the other."""
    return qwen3.decoder_config(part(config, "talker_config", "code_predictor_config"))


def text_width(config: Config) -> int:
    """The width of the text's embedding."""
    return int(part(config, "talker_config").get("text_hidden_size", 2048))


def describe_talker(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return stage_shape(talker_config(config))


def describe_text(config: Config) -> StageShape:
    """See `Stage.describe`."""
    width = text_width(config)
    return StageShape((), 0, width, width, 0, TOKENS_A_STEP)


def describe_codec(config: Config) -> StageShape:
    """See `Stage.describe`; widest are the last convolutions, which have all samples of a frame of codes."""
    return StageShape((), 0, _WIDEST, 0, 0, FRAMES_A_STEP)


def voices(config: Config) -> dict[str, int]:
    """The voices' codes by name; none for a model whose voice is described."""
    return {
        str(name): int(code) for name, code in (part(config, "talker_config").get("spk_id") or {}).items()
    }


def codes(config: Config) -> Mapping[str, Any]:
    """The special codes by their names in config.json."""
    section = part(config, "talker_config")
    names = ("eos_token_id", "think_id", "nothink_id", "think_bos_id", "think_eos_id", "pad_id", "bos_id")
    return {name: int(require(section, f"codec_{name}")) for name in names}
