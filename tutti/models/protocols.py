"""What the engine asks of a model, by kind of stage.

A family's `build` function returns an object of one of these. The protocols are small on purpose: everything else
(scheduling, memory, sampling) is the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tutti.graph import KVGroup
from tutti.kernels.paged import LayerCache, PagedBatch


@dataclass(frozen=True, slots=True)
class ForwardInputs:
    """The tokens of one step, of all its requests, flattened.

    `tokens` int64 [tokens]; `positions` int64 [tokens] (or [3, tokens] for M-RoPE); `batches` one `PagedBatch` per
    entry of the model's `groups`; `embeds` [tokens, hidden] replaces the embedding where `embed_mask` bool [tokens]
    is set.
    """

    tokens: Tensor
    positions: Tensor
    batches: tuple[PagedBatch, ...]
    embeds: Tensor | None = None
    embed_mask: Tensor | None = None


class CausalModel(Protocol):
    """An autoregressive stage's model: embeds, runs its layers over the paged cache, projects to logits."""

    groups: tuple[KVGroup, ...]
    vocab_size: int  # rows of the logits; may exceed the tokenizer's
    context: int  # the longest sequence, in tokens

    def forward(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> Tensor:
        """Hidden states after the last norm, [tokens, hidden]. `caches` has one entry per layer, by layer index."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits [rows, vocab_size] of hidden states [rows, hidden]."""
        ...

    def weight_bytes(self) -> int:
        """Bytes of memory the weights hold, packed copies included."""
        ...
