"""How an encoder of text is made, as a value, and what families read it from. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, NormConfig, RopeConfig
from tutti.models import reading
from tutti.models.processor.pooling import is_scorer
from tutti.models.reading import Config


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """A stack of layers of attention and feed-forward, each normed behind its residual addition.

    `places` are the rows of the table of positions, 0 where `rope` turns queries and keys instead; a text's first token
    has the row `first`. `types` are the kinds of segments: 2 tell the texts of a pair apart. `bias` is of the
    projections of attention.
    """

    hidden: int
    vocab: int
    context: int
    layers: int
    heads: int
    head_dim: int
    feed_forward: FeedForwardConfig
    norm: NormConfig
    types: int
    places: int = 0
    first: int = 0
    rope: RopeConfig | None = None
    bias: bool = True

    @property
    def shape(self) -> StageShape:
        """What the memory plan must know."""
        return StageShape((), self.context, self.hidden, self.feed_forward.activations, 0)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What makes scores of the first token: a linear layer with tanh, and a linear layer to `labels` logits.

    `activation`, torch's name of it, is what makes scores of the logits.
    """

    labels: int
    activation: str


def learned_positions(config: Config, first: int = 0) -> EncoderConfig:
    """The encoder of Devlin et al. 2018; a text's first token has the position `first`. Raises CheckpointError."""
    kind = config.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise CheckpointError(f"config.json: positions of the kind {kind!r} are not supported")
    hidden, heads = reading.require(config, "hidden_size"), reading.require(config, "num_attention_heads")
    places = reading.require(config, "max_position_embeddings")
    return EncoderConfig(
        hidden=hidden,
        vocab=reading.require(config, "vocab_size"),
        context=places - first,
        layers=reading.require(config, "num_hidden_layers"),
        heads=heads,
        head_dim=hidden // heads,
        feed_forward=FeedForwardConfig(
            intermediate=reading.require(config, "intermediate_size"),
            activation=reading.activation(config, "hidden_act", default="gelu"),
            gated=False,
            bias=True,
        ),
        norm=norm(config),
        types=int(config.get("type_vocab_size") or 1),
        places=places,
        first=first,
    )


def norm(config: Config) -> NormConfig:
    """The norm of `layer_norm_eps`."""
    return NormConfig(eps=float(config.get("layer_norm_eps") or 1e-12), kind="layer", bias=True)


def head(config: Config) -> HeadConfig | None:
    """What makes scores, where the architecture is one that does. The labels are counted by their names.

    Cross-encoders of sentence-transformers say their activation; others' scores are probabilities.
    """
    if not is_scorer(config):
        return None
    labels = config.get("num_labels") or len(config.get("id2label") or ()) or 2
    of_each = int(labels) == 1 or config.get("problem_type") == "multi_label_classification"
    own = config.get("sentence_transformers") or {}
    said = own.get("activation_fn") or config.get("sbert_ce_default_activation_function") or ""
    return HeadConfig(int(labels), said.rpartition(".")[2] or ("Sigmoid" if of_each else "Softmax"))
