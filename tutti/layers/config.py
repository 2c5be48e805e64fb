"""How layers are made, as values. Read from a checkpoint's configuration, before any weight; no torch here.

A model's decoder is a tuple of these (see `models.config`); another kind of attention or feed-forward is another value
here and another layer beside the present ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutti.graph import KVGroup


@dataclass(frozen=True, slots=True)
class NormConfig:
    """A normalization: `kind` "rms" or "layer"; `offset` is added to an RMS norm's weight."""

    eps: float
    kind: str = "rms"
    offset: float = 0.0
    bias: bool = False


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True)
class WavelengthScaling:
    """Frequencies by their wavelength in tokens, against the `original` context.

    Longer than original / low: divided by `factor`; shorter than original / high: kept; between: a blend.
    """

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (Peng et al. 2023): a ramp between scaled and unscaled frequencies, from `fast` to `slow` rotations.

    `magnitude` multiplies cosines and sines. `truncate` rounds the ramp's ends to whole dimensions.
    """

    factor: float
    original: int
    fast: float = 32.0
    slow: float = 1.0
    magnitude: float = 1.0
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class FactorScaling:
    """LongRoPE (Ding et al. 2024): every frequency divided by a factor of its own; `magnitude` as in YaRN.

    `long` serves where the served context exceeds the `original` one, `short` elsewhere. transformers switches when a
    sequence grows past the original context and computes it anew; here the choice is made once per served context, so
    that an answer never depends on what else is in the batch or in the cache.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original: int
    magnitude: float = 1.0


RopeScaling = LinearScaling | WavelengthScaling | YarnScaling | FactorScaling


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding of the first `dim` columns of a head, with frequencies base ** (-2i / dim).

    `interleaved`: column 2i turns with column 2i + 1, instead of column i with column i + dim / 2. `axes`, when not
    empty, gives for each frequency the axis of the positions that it turns with (M-RoPE: time, height, width).
    """

    dim: int
    base: float = 10_000.0
    scaling: RopeScaling | None = None
    interleaved: bool = False
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Grouped-query attention: query head h reads KV head h * kv_heads // heads.

    `rope` is an index into the decoder's ropes, None for no positions; `window` w sees keys in (p - w, p]; `softcap`
    bounds the logits; `sinks` adds one learned logit per head to the softmax's denominator; `qk_norm` normalizes each
    head of queries and keys; `bias` is of the Q, K and V projections, `out_bias` of the last.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: int | None = 0
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    qk_norm: NormConfig | None = None
    bias: bool = False
    out_bias: bool = False

    def kv_group(self, layers: tuple[int, ...] = ()) -> KVGroup:
        """How these layers' KV cache pages."""
        kind = "full" if self.window is None else "window"
        return KVGroup(kind, layers, self.kv_heads, self.head_dim, self.head_dim, self.window)


@dataclass(frozen=True, slots=True)
class LatentAttentionConfig:
    """Multi-head latent attention: keys and values of all heads are projections of one latent of width `rank`.

    A head's query and key have `plain_dim` columns without positions and `rope_dim` with; the latter are the same in
    all heads' keys. `value_dim` is the width of a head's values. `query_rank`, if given, is the width queries are
    compressed to. `norm` is of the compressed queries and the latent. `bias` is of the compressing projections and
    the last.
    """

    heads: int
    plain_dim: int
    rope_dim: int
    value_dim: int
    rank: int
    scale: float
    norm: NormConfig
    query_rank: int | None = None
    rope: int | None = 0
    bias: bool = False

    def kv_group(self, layers: tuple[int, ...] = ()) -> KVGroup:
        """How these layers' KV cache pages: per token one latent and one rotated key, shared by all heads."""
        return KVGroup("full", layers, 1, self.rank + self.rope_dim, self.rank, shared_value=True)


@dataclass(frozen=True, slots=True)
class FeedForwardConfig:
    """down(act(up(x))), or down(act(gate(x)) * up(x)) when `gated`. `intermediate` is the inner width."""

    intermediate: int
    activation: str
    gated: bool = True
    bias: bool = False

    @property
    def activations(self) -> int:
        """Elements per token at the layer's widest moment."""
        return self.intermediate * (2 if self.gated else 1)


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Chooses `active` of `experts` experts for each token, weighted by the softmax over all of them.

    `normalize` makes the chosen weights sum to one, which is the softmax over the chosen alone; `scale` multiplies
    them. With `groups` > 1 the experts stand in that many equal groups, and only those of the `active_groups` whose
    best expert is best are eligible.
    """

    experts: int
    active: int
    normalize: bool = False
    scale: float = 1.0
    groups: int = 1
    active_groups: int = 1
    bias: bool = False


@dataclass(frozen=True, slots=True)
class MixtureConfig:
    """A mixture of experts, each an `expert`; `shared` is one more that every token passes.

    `shared_gate`: the shared expert's result is multiplied by the sigmoid of a number that each token gives itself.
    """

    router: RouterConfig
    expert: FeedForwardConfig
    shared: FeedForwardConfig | None = None
    shared_gate: bool = False

    @property
    def activations(self) -> int:
        """Elements per token at the layer's widest moment."""
        shared = 0 if self.shared is None else self.shared.activations
        return self.router.active * self.expert.activations + shared
