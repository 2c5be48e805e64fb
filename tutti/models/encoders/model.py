"""An encoder of text and what makes vectors or scores of it, as the model of a stage of one pass."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.errors import ConfigError, ContextOverflow, InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.layers.parameters import LoadOptions, Named, prefixed
from tutti.models.encoders.network import TextEncoder
from tutti.models.encoders.pooling import Classifier, Embedder, Maker
from tutti.models.encoders.shape import EncoderConfig, head
from tutti.models.processor.pooling import read_pooling
from tutti.models.weights import PlainSource, WeightSource, load, renamed
from tutti.request import PoolingParams, Tokens

# Buffers, and heads of training that nobody needs.
IGNORED = (r".*position_ids", r".*pooler\.dense\..*", r"cls\..*", r"lm_head\..*", r".*inv_freq")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text as it is computed; `second` as in `Tokens`."""

    ids: tuple[int, ...]
    second: int


class Pooler:
    """What makes a vector or a score of a whole text, whatever reads it: of `OnceModel` and `Pools` all but `run`."""

    def __init__(self, maker: Maker, context: int, vocab_size: int) -> None:
        """`context` is the longest text served, in tokens."""
        self.maker = maker
        self.context = context
        self.vocab_size = vocab_size
        self.width = maker.width

    def take(self, part: Tokens) -> Passage:
        """See `OnceModel.take`."""
        return _checked(part, self.context, self.vocab_size)

    def cost(self, item: Passage) -> int:
        """See `OnceModel.cost`: tokens."""
        return len(item.ids)

    def bucket(self, item: Passage) -> Hashable:
        """See `OnceModel.bucket`: texts of all lengths are computed together."""
        return None

    def finish(self, pooled: Tensor, wishes: PoolingParams) -> Tensor:
        """See `Pools.finish`."""
        return self.maker.finish(pooled, wishes)


class TextPooler(Pooler):
    """Implements `models.protocols.OnceModel` and `Pools`."""

    def __init__(self, encoder: TextEncoder, maker: Maker, context: int) -> None:
        """`context` is the longest text served, in tokens."""
        super().__init__(maker, context, encoder.config.vocab)
        self.encoder = encoder

    def run(self, items: list[Passage]) -> list[Tensor]:
        """A vector float32 [width] per item, before it is finished."""
        hidden = self.encoder([item.ids for item in items], [item.second for item in items])
        return list(self.maker.pool(hidden, [len(item.ids) for item in items]).cpu())


def _checked(part: Tokens, context: int, vocab: int) -> Passage:
    """The tokens, if they can be computed. Raises InvalidRequest, ContextOverflow."""
    if not part.ids:
        raise InvalidRequest("the prompt is empty; give at least one token", param="prompt")
    if len(part.ids) > context:
        raise ContextOverflow(
            f"the prompt has {len(part.ids)} tokens, but the model takes {context} tokens", param="prompt"
        )
    wrong = next((token for token in part.ids if not 0 <= token < vocab), None)
    if wrong is not None:
        raise InvalidRequest(f"prompt: token id {wrong} is outside the vocabulary of {vocab}", param="prompt")
    return Passage(part.ids, part.second)


@torch.inference_mode()
def build(
    checkpoint: Checkpoint,
    options: BuildOptions,
    config: EncoderConfig,
    table: Mapping[str, str | tuple[str, ...]],
    prefix: str,
    heads: Mapping[str, str],
    ignore: Collection[str] = (),
    source: WeightSource | None = None,
) -> TextPooler:
    """The encoder of `config` with the checkpoint's weights, by `table` of the names behind `prefix` (or without it).

    `heads` has the names of a classifier's layers, for architectures that score. Raises CheckpointError, ConfigError.
    """
    if options.quantization not in (None, "int8"):
        raise ConfigError(
            f"quantization {options.quantization!r} is not known; known: int8", param="quantization"
        )
    device = torch.device(options.device)
    loading = LoadOptions(device, getattr(torch, options.dtype), options.quantization)
    encoder = TextEncoder(config, device)
    source = source or PlainSource(checkpoint)
    inner = prefix if any(name.startswith(prefix) for name in source.shapes) else ""
    names = renamed(table, "", inner)
    scores = head(checkpoint.config)
    classifier = None if scores is None else Classifier(scores, config.hidden)
    wanted: Sequence[Named] = [encoder.parameters()]
    ignored = [*IGNORED, *ignore]
    if classifier is not None:
        wanted = [encoder.parameters(), prefixed("head", classifier.parameters())]
        names |= {f"head.{part}": name for part, name in heads.items()}
        ignored.remove(IGNORED[1])
    load((one for group in wanted for one in group), names, source, loading, ignored)
    pooling = read_pooling(checkpoint.path, checkpoint.config)
    maker: Maker = classifier or Embedder(pooling, config.hidden, loading)
    context = min(options.context or config.context, pooling.longest or config.context)
    return TextPooler(encoder, maker, min(context, config.context))
