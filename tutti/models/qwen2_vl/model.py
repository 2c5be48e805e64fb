"""Qwen2-VL's language model: Qwen2's decoder, with positions on three axes."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.grids import GridDecoder
from tutti.models.qwen2_vl.config import decoder_config
from tutti.models.standard import TABLE
from tutti.models.weights import Table, renamed

# Where the language model's tensors lie, in checkpoints of either generation of transformers.
PREFIXES = ("model.language_model.", "model.")
VISION = (r"(model\.)?visual\..*",)


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    config = decoder_config(checkpoint.config)
    return decoder.build(checkpoint, options, config, _table(checkpoint), VISION, kind=GridDecoder)


def _table(checkpoint: Checkpoint) -> Table:
    prefix = next((p for p in PREFIXES if f"{p}embed_tokens.weight" in checkpoint.tensors), PREFIXES[-1])
    return renamed(TABLE, "model.", prefix)
