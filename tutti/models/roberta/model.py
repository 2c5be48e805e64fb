"""RoBERTa's names: BERT's, but for a classifier's."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.bert.model import TABLE
from tutti.models.encoders import model
from tutti.models.roberta.config import encoder_config

HEADS = {"dense": "classifier.dense", "out": "classifier.out_proj"}


def build(checkpoint: Checkpoint, options: BuildOptions) -> model.TextPooler:
    """The encoder with its weights."""
    return model.build(checkpoint, options, encoder_config(checkpoint.config), TABLE, "roberta.", HEADS)
