"""A language model that is trained to make vectors, as the model of a stage of one pass.

A text is computed whole, and nothing is written after it: what the layers cache is needed within one layer alone, so
all layers of a kind share the memory for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.gguf.checkpoint import GGUFCheckpoint
from tutti.graph import BuildOptions, StageShape, resolve
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.layers.parameters import LoadOptions
from tutti.models.decoder import Decoder
from tutti.models.encoders.model import Passage, Pooler
from tutti.models.encoders.pooling import Embedder, Maker
from tutti.models.processor.pooling import read_pooling
from tutti.models.protocols import CausalModel, ForwardInputs
from tutti.models.reading import Config, require
from tutti.models.registry import family_graph

_BLOCK = 32  # tokens
_INNER, _HEAD = "model.", "lm_head.weight"


class DecoderPooler(Pooler):
    """Implements `models.protocols.OnceModel` and `Pools`."""

    def __init__(self, model: CausalModel, maker: Maker, context: int, options: LoadOptions) -> None:
        """`context` is the longest text served, in tokens."""
        super().__init__(maker, context, model.vocab_size)
        self.model = model
        self.device, self.dtype = options.device, options.dtype

    def run(self, items: list[Passage]) -> list[Tensor]:
        """A vector float32 [width] per item, before it is finished."""
        lengths = [len(item.ids) for item in items]
        positions = np.concatenate([np.arange(length) for length in lengths])
        tokens = np.concatenate([np.asarray(item.ids, dtype=np.int64) for item in items])
        batch, blocks = self._batch(lengths, positions)
        inputs = ForwardInputs(
            torch.from_numpy(tokens).to(self.device),
            torch.from_numpy(positions).to(self.device),
            (batch,) * len(self.model.groups),
        )
        hidden = self.model.forward(inputs, self._caches(blocks))
        return list(self.maker.pool(hidden, lengths).cpu())

    def _batch(self, lengths: Sequence[int], positions: np.ndarray) -> tuple[PagedBatch, int]:
        """Where a step's tokens live, each text in blocks of its own behind block 0, and how many blocks there are."""
        counts = np.array(lengths, dtype=np.int64)
        held = -(-counts // _BLOCK)
        firsts = 1 + np.concatenate([[0], np.cumsum(held)])
        steps = np.arange(held.max())
        table = np.where(steps < held[:, None], firsts[:-1, None] + steps, 0).astype(np.int32)
        slots = np.repeat(firsts[:-1], counts) * _BLOCK + positions
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        longest = int(counts.max())
        batch = PagedBatch(
            torch.from_numpy(starts),
            torch.from_numpy(counts.astype(np.int32)),
            torch.from_numpy(table),
            torch.from_numpy(slots),
            longest,
            longest,
        )
        return batch.to(self.device), int(firsts[-1])

    def _caches(self, blocks: int) -> list[LayerCache]:
        """One cache for each layer; those of a group are the same memory."""
        found: dict[int, LayerCache] = {}
        for group in self.model.groups:
            shape = (blocks, group.kv_heads, _BLOCK)
            key = torch.zeros(*shape, group.key_dim, dtype=self.dtype, device=self.device)
            value = (
                key[..., : group.value_dim]
                if group.shared_value
                else torch.zeros(*shape, group.value_dim, dtype=self.dtype, device=self.device)
            )
            found |= dict.fromkeys(group.layers, LayerCache(key, value))
        return [found[layer] for layer in sorted(found)]


def describe(config: Config) -> StageShape:
    """See `Stage.describe`: the language model without its cache. Raises CheckpointError."""
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        raise CheckpointError(
            "config.json: a language model whose tokens see those after them is not supported"
        )
    (stage,) = family_graph(config).stages
    shape: StageShape = resolve(stage.describe)(config)
    return StageShape((), shape.context, shape.hidden, shape.intermediate, 0)


@torch.inference_mode()
def build(checkpoint: Checkpoint, options: BuildOptions) -> DecoderPooler:
    """The language model without its head. Raises what building it raises."""
    checkpoint = completed(checkpoint)
    (stage,) = family_graph(checkpoint.config).stages
    model: CausalModel = resolve(stage.build)(checkpoint, options)
    if isinstance(model, Decoder):
        model.head.packed = None  # nothing is written
    loading = LoadOptions(torch.device(options.device), getattr(torch, options.dtype), options.quantization)
    pooling = read_pooling(checkpoint.path, checkpoint.config)
    maker = Embedder(pooling, require(checkpoint.config, "hidden_size"), loading)
    context = min(options.context or model.context, model.context, pooling.longest or model.context)
    return DecoderPooler(model, maker, context, loading)


def completed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as a language model's: those that make vectors are often saved without the head and its prefix."""
    if isinstance(checkpoint, GGUFCheckpoint):
        return checkpoint
    tensors, config = checkpoint.tensors, checkpoint.config
    if not any(name.startswith(_INNER) for name in tensors):
        tensors = {name if name == _HEAD else _INNER + name: info for name, info in tensors.items()}
    if _HEAD not in tensors:
        config = {**config, "tie_word_embeddings": True}
    return Checkpoint(checkpoint.path, config, tensors)
