"""LLaVA's language model: the decoder of the family that the checkpoint names."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.llava.config import decoder_config
from tutti.models.standard import TABLE
from tutti.models.weights import Table, renamed

# Where the language model's layers and its head lie, in checkpoints of either generation of transformers.
PLACES = {"language_model.model.": "language_model.lm_head", "model.language_model.": "lm_head"}
VISION = (r"(model\.)?(vision_tower|multi_modal_projector)\..*", r"(model\.)?image_newline")


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), _table(checkpoint), VISION)


def _table(checkpoint: Checkpoint) -> Table:
    for prefix, head in PLACES.items():
        if f"{prefix}embed_tokens.weight" in checkpoint.tensors:
            return renamed(TABLE, "model.", prefix) | {"head": head}
    return TABLE
