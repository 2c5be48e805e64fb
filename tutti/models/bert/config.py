"""BERT's configuration. No torch."""

from __future__ import annotations

from tutti.graph import StageShape
from tutti.models.encoders.shape import learned_positions
from tutti.models.reading import Config


def describe_encoder(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return learned_positions(config).shape
