"""Gemma 2: the decoder with sandwich norms."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.gemma2.config import decoder_config
from tutti.models.standard import SANDWICH_NORMS, TABLE


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), TABLE | SANDWICH_NORMS)
