"""A causal language model of transformers as a `CausalModel`: its modules, our pages, our linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tutti.errors import ConfigError, InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, StageShape
from tutti.kernels.paged import LayerCache
from tutti.layers.packed import PackedModule
from tutti.models.fallback import loading
from tutti.models.fallback.attention import AttentionCall, PagedStep, running
from tutti.models.fallback.config import describe, layer_groups, refused
from tutti.models.fallback.probe import check
from tutti.models.protocols import ForwardInputs


class Trunk(nn.Module):
    """A model's decoder, which can be told what it has computed already: then only what follows it runs."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *args: Any, computed: ModelOutput | None = None, **kwargs: Any) -> Any:
        """The decoder's result, or `computed` in its place."""
        return self.decoder(*args, **kwargs) if computed is None else computed


class FallbackModel:
    """Implements `models.protocols.CausalModel`.

    What a model does between its decoder and its logits (scales, caps) is done by the model itself: `logits` runs it
    with the decoder's result given.
    """

    def __init__(self, model: PreTrainedModel, shape: StageShape, context: int, mapped: set[int]) -> None:
        self.groups = shape.groups
        self.vocab_size = shape.vocab
        self.context = context
        self.model = model
        self.decoder = model.get_decoder()
        self._group_of = layer_groups(shape.groups)
        self._windows = [shape.groups[self._group_of[layer]].window for layer in sorted(self._group_of)]
        self._mapped = mapped
        self._output: type[ModelOutput] = ModelOutput  # what the decoder returns, once it has run
        name = next(name for name, module in model.named_modules() if module is self.decoder)
        model.set_submodule(name, Trunk(self.decoder))

    @torch.inference_mode()
    def forward(
        self,
        inputs: ForwardInputs,
        caches: Sequence[LayerCache],
        calls: list[AttentionCall] | None = None,
    ) -> Tensor:
        """Hidden states after the last norm, [tokens, hidden]. `calls` records what layers asked of attention.

        Raises InvalidRequest for embeddings: what a model does to its own is not known.
        """
        if inputs.embeds is not None:
            raise InvalidRequest("this model takes tokens alone, no embeddings")
        with running(PagedStep(inputs.batches, caches, self._group_of, self._windows, calls)):
            result = self.decoder(
                input_ids=inputs.tokens[None], position_ids=inputs.positions[None], use_cache=False
            )
        self._output = type(result)
        return result.last_hidden_state[0]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits [rows, vocab_size] of hidden states [rows, hidden]."""
        tokens = torch.zeros(1, hidden.shape[0], dtype=torch.long, device=hidden.device)
        computed = self._output(last_hidden_state=hidden[None])
        return self.model(input_ids=tokens, use_cache=False, computed=computed).logits[0].float()

    def weight_bytes(self) -> int:
        """Bytes of memory the weights hold. Tensors still mapped from the checkpoint are the file's."""
        packed = (m.packed.bytes for m in self.model.modules() if isinstance(m, PackedModule))
        dense = (p.nbytes for p in self.model.parameters() if p.data_ptr() not in self._mapped)
        return sum(packed) + sum(dense)


@torch.inference_mode()
def build(checkpoint: Checkpoint, options: BuildOptions) -> FallbackModel:
    """The model with its weights, after it has been seen to work (see `probe`).

    Raises CheckpointError for models that cannot be served this way, ConfigError on an unknown quantization.
    """
    if options.quantization not in (None, "int8"):
        raise ConfigError(
            f"quantization {options.quantization!r} is not known; known: int8", param="quantization"
        )
    shape = describe(checkpoint.config)
    loaded = loading.load_model(checkpoint, options)
    if loaded.get_decoder() is loaded:
        raise refused(checkpoint.config, "its decoder and its head cannot be told apart")
    loading.pack(loaded, checkpoint, options)
    mapped = {checkpoint.tensor(name).data_ptr() for name in checkpoint.tensors}
    context = min(shape.context, options.context or shape.context)
    model = FallbackModel(loaded, shape, context, mapped)
    check(model, checkpoint.config, options)
    return model
