"""Qwen2-Audio's language model: Qwen2's decoder."""

from __future__ import annotations

from dataclasses import replace

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.qwen2_audio.config import decoder_config
from tutti.models.standard import TABLE
from tutti.models.weights import renamed

EARS = (r"(model\.)?(audio_tower|multi_modal_projector)\..*",)


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights, under the names of either generation of transformers."""
    if "language_model.model.embed_tokens.weight" in checkpoint.tensors:
        prefix, head = "language_model.model.", "language_model.lm_head"
    else:
        prefix, head = "model.language_model.", "lm_head"
    table = renamed(TABLE, "model.", prefix) | {"head": head}
    # What the configuration says of tied embeddings is its class's default, true or not.
    config = replace(decoder_config(checkpoint.config), tied=f"{head}.weight" not in checkpoint.tensors)
    return decoder.build(checkpoint, options, config, table, EARS)
