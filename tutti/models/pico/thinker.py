"""The thinker: Qwen2.5-Omni's, whose every token both the talker and the painter hear, each in its own way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache
from tutti.models import decoder
from tutti.models.protocols import ForwardInputs
from tutti.models.qwen2_5_omni import thinker


class Thinker(thinker.Thinker):
    """Implements `models.protocols.EmitsRows`: rows [tokens, 2 * width] are the painter's and then the talker's."""

    @torch.inference_mode()
    def forward_emitting(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> tuple[Tensor, Tensor]:
        """Hidden states, and for the painter each token's own, for the talker what Qwen2.5-Omni's takes."""
        hidden, spoken = super().forward_emitting(inputs, caches)
        return hidden, torch.cat([hidden, spoken], dim=-1)


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return thinker.build(checkpoint, options, kind=Thinker)
