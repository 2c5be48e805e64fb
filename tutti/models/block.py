"""One decoder layer: attention and feed-forward on a residual stream, in the arrangements models use.

A block takes `x`, what the previous sublayer gave, and the `residual` it has still to be added to, and returns the same
pair: each addition is fused with the norm that follows it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tutti.kernels import fuse_block
from tutti.kernels.fused import BlockParts, FusedBlock
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.layers.attention import Attention
from tutti.layers.config import AttentionConfig, FeedForwardConfig, LatentAttentionConfig, MixtureConfig
from tutti.layers.feed_forward import FeedForward
from tutti.layers.latent_attention import LatentAttention
from tutti.layers.moe import Mixture
from tutti.layers.norm import LayerNorm, Norm, make_norm
from tutti.layers.parameters import Named, prefixed
from tutti.layers.rope import Rotation
from tutti.models.config import DecoderConfig, LayerConfig


class AttentionLayer(Protocol):
    """What a block asks of attention."""

    def parameters(self) -> Named:
        """Its parameters, by name."""
        ...

    def __call__(self, x: Tensor, rotation: Rotation | None, batch: PagedBatch, cache: LayerCache) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]."""
        ...


class FeedForwardLayer(Protocol):
    """What a block asks of a feed-forward layer."""

    def parameters(self) -> Named:
        """Its parameters, by name."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]."""
        ...


def make_attention(hidden: int, config: AttentionConfig | LatentAttentionConfig) -> AttentionLayer:
    """The attention layer for `config`, by its type."""
    match config:
        case AttentionConfig():
            return Attention(hidden, config)
        case LatentAttentionConfig():
            return LatentAttention(hidden, config)


def make_feed_forward(hidden: int, config: FeedForwardConfig | MixtureConfig) -> FeedForwardLayer:
    """The feed-forward layer for `config`, by its type."""
    match config:
        case FeedForwardConfig():
            return FeedForward(hidden, config)
        case MixtureConfig():
            return Mixture(hidden, config)


class Block(Protocol):
    """What the decoder asks of a layer."""

    def parameters(self) -> Named:
        """Its parameters, by name."""
        ...

    def fuse(self) -> None:
        """Joins its parts, now that they are loaded, where the device has a kernel for all of it at once."""
        ...

    def __call__(
        self,
        x: Tensor,
        residual: Tensor | None,
        rotation: Rotation | None,
        batch: PagedBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """`x` and `residual` [tokens, hidden], `residual` None at the first layer; returns the same pair."""
        ...


class SequentialBlock:
    """Attention, then feed-forward, each normed before, after or both (`DecoderConfig.norm_places`)."""

    def __init__(self, config: DecoderConfig, layer: LayerConfig) -> None:
        self.attention = make_attention(config.hidden, layer.attention)
        self.feed_forward = make_feed_forward(config.hidden, layer.feed_forward)
        before, after = config.norm_places in ("pre", "both"), config.norm_places in ("post", "both")

        def norm(wanted: bool) -> Norm | None:
            return make_norm(config.hidden, config.norm) if wanted else None

        self.attention_norm, self.attention_out_norm = norm(before), norm(after)
        self.feed_forward_norm, self.feed_forward_out_norm = norm(before), norm(after)
        self.fused: FusedBlock | None = None
        self._is_whole = False  # what is joined ends behind the feed-forward layer, not before it

    def parameters(self) -> Named:
        """`attention.*`, `feed_forward.*` and their norms: `attention_norm`, `attention_out_norm`, ..."""
        for name, norm in (
            ("attention_norm", self.attention_norm),
            ("attention_out_norm", self.attention_out_norm),
            ("feed_forward_norm", self.feed_forward_norm),
            ("feed_forward_out_norm", self.feed_forward_out_norm),
        ):
            if norm is not None:
                yield name, norm
        yield from prefixed("attention", self.attention.parameters())
        yield from prefixed("feed_forward", self.feed_forward.parameters())

    def fuse(self) -> None:
        """See `Block.fuse`."""
        parts = self._parts()
        self.fused = None if parts is None else fuse_block(parts)
        self._is_whole = parts is not None and parts.feed_forward is not None
        if isinstance(self.feed_forward, Mixture):
            self.feed_forward.fuse()

    def _parts(self) -> BlockParts | None:
        feed, dense = None, isinstance(self.feed_forward, FeedForward)
        if isinstance(self.feed_forward, FeedForward):
            feed = self.feed_forward.parts()
        attention = self.attention.parts() if isinstance(self.attention, Attention) else None
        if attention is None or (dense and feed is None):
            return None
        norms = []
        for norm in (
            self.attention_norm,
            self.attention_out_norm,
            self.feed_forward_norm,
            self.feed_forward_out_norm,
        ):
            if isinstance(norm, LayerNorm):
                return None
            norms.append(None if norm is None else norm.parts())
        return BlockParts(attention, feed, *norms)

    def __call__(
        self,
        x: Tensor,
        residual: Tensor | None,
        rotation: Rotation | None,
        batch: PagedBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """See `Block`."""
        if self.fused is not None and self.fused.takes(x, batch, cache):
            cos, sin, interleaved = None, None, False
            if rotation is not None:
                cos, sin, interleaved = rotation.cos, rotation.sin, rotation.interleaved
            h, residual = self.fused(x, residual, cos, sin, interleaved, batch, cache)
            if self._is_whole:
                return h, residual
        else:
            h, residual = add_norm(self.attention_norm, x, residual)
            h = self.attention(h, rotation, batch, cache)
            if self.attention_out_norm is not None:
                h = self.attention_out_norm(h)
            h, residual = add_norm(self.feed_forward_norm, h, residual)
        h = self.feed_forward(h)
        if self.feed_forward_out_norm is not None:
            h = self.feed_forward_out_norm(h)
        return h, residual


class ParallelBlock:
    """Attention and feed-forward side by side on the same residual, with one input norm or one each."""

    def __init__(self, config: DecoderConfig, layer: LayerConfig) -> None:
        self.attention = make_attention(config.hidden, layer.attention)
        self.feed_forward = make_feed_forward(config.hidden, layer.feed_forward)
        self.attention_norm = make_norm(config.hidden, config.norm)
        self.feed_forward_norm: Norm | None = None
        if config.parallel_norms == 2:
            self.feed_forward_norm = make_norm(config.hidden, config.norm)

    def parameters(self) -> Named:
        """`attention.*`, `feed_forward.*`, `attention_norm` and, with two norms, `feed_forward_norm`."""
        yield "attention_norm", self.attention_norm
        if self.feed_forward_norm is not None:
            yield "feed_forward_norm", self.feed_forward_norm
        yield from prefixed("attention", self.attention.parameters())
        yield from prefixed("feed_forward", self.feed_forward.parameters())

    def fuse(self) -> None:
        """See `Block.fuse`: there is no kernel for two layers side by side."""

    def __call__(
        self,
        x: Tensor,
        residual: Tensor | None,
        rotation: Rotation | None,
        batch: PagedBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """See `Block`."""
        h, residual = self.attention_norm.add(x, residual)
        inner = h if self.feed_forward_norm is None else self.feed_forward_norm(residual)
        return self.attention(h, rotation, batch, cache) + self.feed_forward(inner), residual


def add_norm(norm: Norm | None, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """(norm(residual + x), residual + x); without a norm both are the sum."""
    if norm is not None:
        return norm.add(x, residual)
    total = x if residual is None else residual + x
    return total, total


def make_block(config: DecoderConfig, layer: LayerConfig) -> Block:
    """The block for `config`'s arrangement."""
    return ParallelBlock(config, layer) if config.parallel else SequentialBlock(config, layer)
