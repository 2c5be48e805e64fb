"""The thinker: Qwen3's decoder with experts and positions on three axes, which the talker reads along with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.grids import GridDecoder
from tutti.models.protocols import ForwardInputs
from tutti.models.qwen3_omni.config import thinker_config
from tutti.models.standard import EXPERTS, TABLE
from tutti.models.weights import renamed

OTHERS = (r"thinker\.(visual|audio_tower)\..*", r"talker\..*", r"code2wav\..*")


class Thinker(GridDecoder):
    """Implements `models.protocols.EmitsRows`.

    The talker takes a word as it is embedded, and of media what the thinker's layer `tap` makes of them.
    """

    def __init__(self, config: DecoderConfig, device: torch.device, context: int | None, tap: int) -> None:
        super().__init__(config, device, context)
        self.tap = tap

    @torch.inference_mode()
    def forward_emitting(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> tuple[Tensor, Tensor]:
        """Hidden states, and for the talker each token's embedding, or where media stand the hidden state inside."""
        embedded = self.embed(inputs.tokens)
        if inputs.embed_mask is None:
            return self.forward(inputs, caches), embedded
        hidden, inside = self.run(inputs, caches, self.tap)
        assert inside is not None
        return hidden, torch.where(inputs.embed_mask[:, None], inside, embedded)


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    table = renamed(TABLE | EXPERTS, "model.", "thinker.model.") | {"head": "thinker.lm_head"}
    # What the configuration says of tied embeddings is its class's default, true or not.
    tied = "thinker.lm_head.weight" not in checkpoint.tensors
    config = replace(thinker_config(checkpoint.config), tied=tied)
    talker = checkpoint.config.get("talker_config") or {}  # not every checkpoint speaks
    tap = min(talker.get("accept_hidden_layer", 18), len(config.layers))

    def kind(config: DecoderConfig, device: torch.device, context: int | None) -> Thinker:
        return Thinker(config, device, context, tap)

    return decoder.build(checkpoint, options, config, table, OTHERS, kind=kind)
