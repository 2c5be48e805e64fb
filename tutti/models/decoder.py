"""The one decoder: embedding, blocks over the paged cache, last norm, head. Everything is chosen by its config.

A family is a `DecoderConfig` read from config.json and a table of weight names; `build` puts the two together. Owns
neither the cache nor the scheduling: the engine brings a step's flattened tokens and the layers' caches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from tutti.errors import ConfigError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.lora import Adapter
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache
from tutti.layers.embedding import Embedding
from tutti.layers.linear import Linear
from tutti.layers.norm import make_norm
from tutti.layers.parameters import LoadOptions, Named, prefixed
from tutti.layers.rope import Rope
from tutti.models.adapters import adapt
from tutti.models.block import make_block
from tutti.models.config import DecoderConfig, kv_groups
from tutti.models.protocols import ForwardInputs
from tutti.models.weights import PlainSource, Table, WeightSource, load

# Buffers that old checkpoints carry although they are computed.
BUFFERS = (r".*\.rotary_emb\.inv_freq", r".*\.(attn|attention)\.(masked_bias|bias)")


class Decoder:
    """A decoder-only transformer; implements `models.protocols.CausalModel`.

    `context` is the longest sequence served, at most the configuration's own.
    """

    def __init__(self, config: DecoderConfig, device: torch.device, context: int | None = None) -> None:
        self.config = config
        self.device = device
        self.groups, self._group_of = kv_groups(config)
        self.vocab_size = config.vocab
        self.context = min(config.context, context or config.context)
        self.head = Linear(config.hidden, config.vocab, bias=config.head_bias)
        self.embed = Embedding(
            config.vocab, config.hidden, config.embed_scale, self.head if config.tied else None
        )
        self.ropes = [Rope(rope, self.context, device) for rope in config.ropes]
        self.blocks = [make_block(config, layer) for layer in config.layers]
        self.norm = make_norm(config.hidden, config.norm)
        self.table: Table = {}  # by which its weights were loaded
        self._rope_of = [layer.attention.rope for layer in config.layers]

    def parameters(self) -> Named:
        """`embed`, `head` (unless tied), `layers.N.*`, `norm`: the names weight tables are written for."""
        yield "embed", self.embed
        if not self.config.tied:
            yield "head", self.head
        for index, block in enumerate(self.blocks):
            yield from prefixed(f"layers.{index}", block.parameters())
        yield "norm", self.norm

    def adapt(self, adapter: Adapter, dtype: torch.dtype) -> None:
        """See `models.protocols.TakesAdapters`."""
        adapt(self.parameters(), self.table, adapter, self.device, dtype)
        self.fuse()

    def fuse(self) -> None:
        """See `Block.fuse`."""
        for block in self.blocks:
            block.fuse()

    @torch.inference_mode()
    def forward(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> Tensor:
        """Hidden states after the last norm, [tokens, hidden]; writes the step's keys and values to `caches`."""
        return self.run(inputs, caches)[0]

    def run(
        self, inputs: ForwardInputs, caches: Sequence[LayerCache], tap: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What `forward` gives, and what the first `tap` layers gave, [tokens, hidden]; the last layer's is normed."""
        x = self.begin(inputs)
        tapped = x.clone() if tap == 0 else None
        rotations = [rope(inputs.positions) for rope in self.ropes]
        residual: Tensor | None = None
        features = iter(self.features(inputs))
        layers = zip(self.blocks, self._rope_of, self._group_of, caches, strict=True)
        for number, (block, rope, group, cache) in enumerate(layers, 1):
            rotation = None if rope is None else rotations[rope]
            x, residual = block(x, residual, rotation, inputs.batches[group], cache)
            if number == tap:
                tapped = x + residual
            if (feature := next(features, None)) is not None:
                x = x + feature.to(x.dtype)
        hidden = self.norm.add(x, residual)[0]
        return hidden, hidden if tap == len(self.blocks) else tapped

    def begin(self, inputs: ForwardInputs) -> Tensor:
        """The first layer's input [tokens, hidden]: embeddings, with other stages' rows in their places."""
        x = self.embed(inputs.tokens)
        if inputs.embeds is None or inputs.embed_mask is None:
            return x
        rows = inputs.embeds[:, : self.config.hidden]
        return torch.where(inputs.embed_mask[:, None], rows.to(x.dtype), x)

    def features(self, inputs: ForwardInputs) -> list[Tensor]:
        """What is added after each of the first layers, [tokens, hidden]; zeros where no encoder's row stands."""
        if inputs.embeds is None or not self.config.deepstack:
            return []
        return list(inputs.embeds.split(self.config.hidden, dim=1)[1:])

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits [rows, vocab_size] of hidden states [rows, hidden]."""
        logits = self.head(hidden, torch.float32)
        cap = self.config.logit_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def weight_bytes(self) -> int:
        """Bytes of memory the weights hold, packed copies included. A mapped embedding table is the file's."""
        return sum(parameter.nbytes for _, parameter in self.parameters())


@torch.inference_mode()
def build(
    checkpoint: Checkpoint,
    options: BuildOptions,
    config: DecoderConfig,
    table: Table,
    ignore: Collection[str] = (),
    source: WeightSource | None = None,
    kind: Callable[[DecoderConfig, torch.device, int | None], Decoder] = Decoder,
) -> Decoder:
    """The decoder of `config` with the checkpoint's weights, by `table`; `ignore` as in `weights.load`.

    `source` brings the weights where they are not the checkpoint's tensors as they stand; `kind` makes another class of
    decoder.

    Raises CheckpointError when the checkpoint and the config do not fit together, ConfigError on an unknown
    quantization.
    """
    if options.quantization not in (None, "int8"):
        raise ConfigError(
            f"quantization {options.quantization!r} is not known; known: int8", param="quantization"
        )
    device = torch.device(options.device)
    decoder = kind(config, device, options.context)
    ignored = (*BUFFERS, *ignore)
    if config.tied and isinstance(head := table["head"], str):
        ignored = (*ignored, re.escape(f"{head}.weight"))
    dtype: torch.dtype = getattr(torch, options.dtype)
    loading = LoadOptions(device, dtype, options.quantization)
    decoder.table = table
    load(decoder.parameters(), table, source or PlainSource(checkpoint), loading, ignored)
    decoder.fuse()
    return decoder
