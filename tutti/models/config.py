"""What a decoder is made of, as one value read from config.json before any weight; no torch here.

`DecoderConfig` is what a family's `config.py` produces and `decoder.Decoder` builds. `stage_shape` says to the memory
plan what such a decoder takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tutti.graph import KVGroup, StageShape
from tutti.layers.config import (
    AttentionConfig,
    FeedForwardConfig,
    LatentAttentionConfig,
    MixtureConfig,
    NormConfig,
    RopeConfig,
)


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One decoder layer. Another kind of attention or feed-forward is another type here and in `models.block`."""

    attention: AttentionConfig | LatentAttentionConfig
    feed_forward: FeedForwardConfig | MixtureConfig


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder-only transformer.

    `norm_places`: "pre" norms the input of attention and feed-forward, "post" their output, "both" both (sandwich).
    `parallel`: attention and feed-forward read the same residual and are added to it together; `parallel_norms` is 1
    when they share their input norm, 2 when each has its own. `tied`: the head is the embedding's table.
    `embed_scale` multiplies embeddings; `logit_softcap` c bounds logits to c * tanh(logit / c). `deepstack`: an
    encoder's rows hold, behind the embedding, so many features more, each added to the hidden state after one of the
    first layers (DeepStack, Meng et al. 2024).
    """

    hidden: int
    vocab: int
    context: int
    layers: tuple[LayerConfig, ...]
    norm: NormConfig
    ropes: tuple[RopeConfig, ...]
    norm_places: str = "pre"
    parallel: bool = False
    parallel_norms: int = 1
    tied: bool = False
    head_bias: bool = False
    embed_scale: float | None = None
    logit_softcap: float | None = None
    deepstack: int = 0


def kv_groups(config: DecoderConfig) -> tuple[tuple[KVGroup, ...], tuple[int, ...]]:
    """The groups of layers that page alike, and each layer's index into them."""
    members: dict[KVGroup, list[int]] = {}
    for index, layer in enumerate(config.layers):
        members.setdefault(layer.attention.kv_group(), []).append(index)
    groups = tuple(replace(group, layers=tuple(layers)) for group, layers in members.items())
    places = {index: place for place, group in enumerate(groups) for index in group.layers}
    return groups, tuple(places[index] for index in range(len(config.layers)))


def stage_shape(config: DecoderConfig) -> StageShape:
    """What the memory plan must know of the decoder."""
    widest = max((layer.feed_forward.activations for layer in config.layers), default=0)
    return StageShape(kv_groups(config)[0], config.context, config.hidden, widest, config.vocab)
