"""The thinker: Qwen2's decoder with positions on three axes, whose every token the talker hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache
from tutti.models import decoder
from tutti.models.grids import GridDecoder
from tutti.models.protocols import ForwardInputs
from tutti.models.qwen2_5_omni.config import thinker_config
from tutti.models.standard import TABLE
from tutti.models.weights import renamed

OTHERS = (r"thinker\.(visual|audio_tower)\..*", r"talker\..*", r"token2wav\..*")


class Thinker(GridDecoder):
    """Implements `models.protocols.EmitsRows`."""

    @torch.inference_mode()
    def forward_emitting(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> tuple[Tensor, Tensor]:
        """Hidden states, and for the talker each token's hidden state plus its embedding, which media have none of."""
        hidden = self.forward(inputs, caches)
        embedded = self.embed(inputs.tokens)
        if inputs.embed_mask is not None:
            embedded = embedded.masked_fill(inputs.embed_mask[:, None], 0)
        return hidden, hidden + embedded


def build(checkpoint: Checkpoint, options: BuildOptions, *, kind: type[Thinker] = Thinker) -> decoder.Decoder:
    """The model with its weights."""
    table = renamed(TABLE, "model.", "thinker.model.") | {"head": "thinker.lm_head"}
    # What the configuration says of tied embeddings is its class's default, true or not.
    config = replace(
        thinker_config(checkpoint.config), tied="thinker.lm_head.weight" not in checkpoint.tensors
    )
    return decoder.build(checkpoint, options, config, table, OTHERS, kind=kind)
