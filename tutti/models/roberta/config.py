"""RoBERTa's configuration: BERT's, but for positions, which begin behind that of padding. No torch."""

from __future__ import annotations

from tutti.graph import StageShape
from tutti.models.encoders.shape import EncoderConfig, learned_positions
from tutti.models.reading import Config


def encoder_config(config: Config) -> EncoderConfig:
    """The encoder that config.json describes."""
    padding = config.get("pad_token_id")
    return learned_positions(config, first=(1 if padding is None else int(padding)) + 1)


def describe_encoder(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return encoder_config(config).shape
