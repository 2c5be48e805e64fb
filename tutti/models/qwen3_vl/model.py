"""Qwen3-VL's language model: Qwen3's decoder, with positions on three axes and what the tower's inner layers saw."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.gpt_oss.source import ExpertSource
from tutti.models.grids import GridDecoder
from tutti.models.qwen3_vl.config import decoder_config, has_experts, text_config
from tutti.models.standard import EXPERTS, TABLE
from tutti.models.weights import renamed

VISION = (r"model\.visual\..*",)

# A layer's experts lie in one tensor for each matrix, which `ExpertSource` takes apart.
_FUSED = {
    "layers.{}.feed_forward.experts.{}.up": "model.layers.{}.mlp.experts.{}.gate_up_proj",
    "layers.{}.feed_forward.experts.{}.down": "model.layers.{}.mlp.experts.{}.down_proj",
}


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    experts = has_experts(checkpoint.config)
    table = renamed(TABLE | EXPERTS | _FUSED if experts else TABLE, "model.", "model.language_model.")
    return decoder.build(
        checkpoint,
        options,
        decoder_config(checkpoint.config),
        table,
        VISION,
        _experts(checkpoint) if experts else None,
        GridDecoder,
    )


def _experts(checkpoint: Checkpoint) -> ExpertSource:
    """The weights, experts apart: published with columns first, saved by transformers 5 with rows first."""
    hidden = text_config(checkpoint.config)["hidden_size"]
    fused = [
        info.shape for name, info in checkpoint.tensors.items() if name.endswith(".experts.gate_up_proj")
    ]
    return ExpertSource(checkpoint, columns_first=all(shape[1] == hidden for shape in fused))
