"""Gemma 3: the decoder with sandwich norms, also of a checkpoint that sees."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.gemma3.config import decoder_config
from tutti.models.standard import SANDWICH_NORMS, TABLE
from tutti.models.weights import Table, renamed

# Where the language model's tensors lie in checkpoints that see, of either generation of transformers.
PREFIXES = ("model.language_model.", "language_model.model.")
VISION = (r"(model\.)?vision_tower\..*", r"(model\.)?multi_modal_projector\..*")


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), _table(checkpoint), VISION)


def _table(checkpoint: Checkpoint) -> Table:
    table = TABLE | SANDWICH_NORMS
    for prefix in PREFIXES:
        if f"{prefix}embed_tokens.weight" in checkpoint.tensors:
            return renamed(table, "model.", prefix) | {"head": prefix.replace("model.", "") + "lm_head"}
    return table
