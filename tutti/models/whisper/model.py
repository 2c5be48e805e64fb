"""Whisper's decoder: self-attention over the paged cache, and attention over the encoder's rows.

The keys and values of a recording are computed when its request begins to run, and stay until it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.errors import ConfigError, InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.kernels.weights import Dense, Weight
from tutti.layers.attention import Attention
from tutti.layers.config import NormConfig
from tutti.layers.embedding import Embedding
from tutti.layers.feed_forward import FeedForward
from tutti.layers.linear import Linear
from tutti.layers.norm import LayerNorm
from tutti.layers.parameters import LoadOptions, Named, Vector, prefixed
from tutti.models.protocols import ForwardInputs
from tutti.models.weights import PlainSource, load
from tutti.models.whisper.config import SpeechDecoderConfig, decoder_config
from tutti.models.whisper.rules import shape_logits
from tutti.models.whisper.tokens import SpeechTokens, alignment_heads, read_tokens
from tutti.request import MediaInput

_LAYER = "model.decoder.layers.{}"
TABLE: dict[str, str | tuple[str, ...]] = {
    "embed": "model.decoder.embed_tokens",
    "places": "model.decoder.embed_positions",
    "norm": "model.decoder.layer_norm",
    "head": "proj_out",
    "layers.{}.attention_norm": f"{_LAYER}.self_attn_layer_norm",
    "layers.{}.attention.qkv": tuple(f"{_LAYER}.self_attn.{part}_proj" for part in "qkv"),
    "layers.{}.attention.out": f"{_LAYER}.self_attn.out_proj",
    "layers.{}.recording_norm": f"{_LAYER}.encoder_attn_layer_norm",
    "layers.{}.recording.query": f"{_LAYER}.encoder_attn.q_proj",
    "layers.{}.recording.key_value": tuple(f"{_LAYER}.encoder_attn.{part}_proj" for part in "kv"),
    "layers.{}.recording.out": f"{_LAYER}.encoder_attn.out_proj",
    "layers.{}.feed_forward_norm": f"{_LAYER}.final_layer_norm",
    "layers.{}.feed_forward.up": f"{_LAYER}.fc1",
    "layers.{}.feed_forward.down": f"{_LAYER}.fc2",
}
_NORM = NormConfig(eps=1e-5, kind="layer", bias=True)


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One layer's keys and values of a recording, each [heads, rows, head_dim]."""

    key: Tensor
    value: Tensor


Recording = tuple[KeyValue, ...]  # one per layer


class RecordingAttention:
    """Attention of every token over all rows of its request's recording (Vaswani et al. 2017, section 3.2.3)."""

    def __init__(self, config: SpeechDecoderConfig) -> None:
        self.heads = config.attention.heads
        self.scale = config.attention.scale
        self.query = Linear(config.hidden, config.hidden, bias=True)
        self.key_value = Linear(config.hidden, config.hidden, config.hidden, bias=True)
        self.out = Linear(config.hidden, config.hidden, bias=True)

    def parameters(self) -> Named:
        """`query`, `key_value` (slots key, value) and `out`."""
        yield "query", self.query
        yield "key_value", self.key_value
        yield "out", self.out

    def remember(self, rows: Tensor) -> KeyValue:
        """The keys and values of `rows` [rows, hidden]."""
        both = self.key_value(rows).view(len(rows), 2, self.heads, -1).permute(1, 2, 0, 3).contiguous()
        return KeyValue(both[0], both[1])

    def look(
        self, x: Tensor, recordings: Sequence[KeyValue], starts: Sequence[int], heads: Sequence[int]
    ) -> Tensor:
        """How much each token looks at each row in some `heads`: float32 [tokens, heads, rows]."""
        queries = self._queries(x)[list(heads)]
        seen = [
            (queries[:, first:last] @ one.key[list(heads)].transpose(1, 2) * self.scale).softmax(
                -1, torch.float32
            )
            for one, first, last in zip(recordings, starts[:-1], starts[1:], strict=True)
        ]
        return torch.cat(seen, 1).transpose(0, 1)

    def _queries(self, x: Tensor) -> Tensor:
        return self.query(x).view(len(x), self.heads, -1).transpose(0, 1)

    def __call__(self, x: Tensor, recordings: Sequence[KeyValue], starts: Sequence[int]) -> Tensor:
        """`x` [tokens, hidden], of which those from `starts[i]` to `starts[i + 1]` look at `recordings[i]`."""
        queries = self._queries(x)
        seen = [
            F.scaled_dot_product_attention(
                queries[None, :, first:last], one.key[None], one.value[None], scale=self.scale
            )[0]
            for one, first, last in zip(recordings, starts[:-1], starts[1:], strict=True)
        ]
        return self.out(torch.cat(seen, 1).transpose(0, 1).flatten(1))


class Layer:
    """Self-attention, attention over the recording, feed-forward, each normed before."""

    def __init__(self, config: SpeechDecoderConfig) -> None:
        self.attention_norm = LayerNorm(config.hidden, _NORM)
        self.attention = Attention(config.hidden, config.attention)
        self.recording_norm = LayerNorm(config.hidden, _NORM)
        self.recording = RecordingAttention(config)
        self.feed_forward_norm = LayerNorm(config.hidden, _NORM)
        self.feed_forward = FeedForward(config.hidden, config.feed_forward)

    def parameters(self) -> Named:
        """`attention.*`, `recording.*`, `feed_forward.*` and their norms."""
        yield "attention_norm", self.attention_norm
        yield from prefixed("attention", self.attention.parameters())
        yield "recording_norm", self.recording_norm
        yield from prefixed("recording", self.recording.parameters())
        yield "feed_forward_norm", self.feed_forward_norm
        yield from prefixed("feed_forward", self.feed_forward.parameters())

    def __call__(
        self,
        x: Tensor,
        batch: PagedBatch,
        cache: LayerCache,
        recordings: Sequence[KeyValue],
        starts: Sequence[int],
        watched: Sequence[int],
        looks: list[Tensor],
    ) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]; without recordings, nothing is looked at.

        What the `watched` heads look at is added to `looks`.
        """
        x = x + self.attention(self.attention_norm(x), None, batch, cache)
        if recordings:
            normed = self.recording_norm(x)
            if watched:
                looks.append(self.recording.look(normed, recordings, starts, watched))
            x = x + self.recording(normed, recordings, starts)
        return x + self.feed_forward(self.feed_forward_norm(x))


class SpeechDecoder:
    """Implements `models.protocols.CausalModel`, `Remembers`, `ShapesLogits` and `EmitsRows`."""

    def __init__(
        self,
        config: SpeechDecoderConfig,
        tokens: SpeechTokens,
        heads: Sequence[tuple[int, int]],
        context: int | None = None,
    ) -> None:
        """`heads` (layer, head) are those whose looks others want; see `align`."""
        self.config = config
        self.tokens = tokens
        self.watched = heads
        self.groups = (config.group,)
        self.vocab_size = config.vocab
        self.context = min(config.context, context or config.context)
        self.head = Linear(config.hidden, config.vocab)
        self.embed = Embedding(config.vocab, config.hidden, None, self.head if config.tied else None)
        self.places = Vector(config.context, config.hidden, suffix="weight")
        self.layers = [Layer(config) for _ in range(config.layers)]
        self.norm = LayerNorm(config.hidden, _NORM)

    def parameters(self) -> Named:
        """`embed`, `places`, `head` (unless tied), `layers.N.*`, `norm`."""
        yield "embed", self.embed
        yield "places", self.places
        if not self.config.tied:
            yield "head", self.head
        for index, layer in enumerate(self.layers):
            yield from prefixed(f"layers.{index}", layer.parameters())
        yield "norm", self.norm

    @torch.inference_mode()
    def remember(self, media: Sequence[tuple[MediaInput, Tensor]]) -> Recording:
        """See `Remembers.remember`: the recording's keys and values in every layer."""
        if len(media) != 1:
            raise InvalidRequest(f"the model takes one recording with a request, not {len(media)}")
        ((_, rows),) = media
        return tuple(layer.recording.remember(rows) for layer in self.layers)

    @torch.inference_mode()
    def forward(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> Tensor:
        """See `CausalModel.forward`; without memories (when its memory is measured) nothing is heard."""
        return self._run(inputs, caches, {})[0]

    @torch.inference_mode()
    def forward_emitting(self, inputs: ForwardInputs, caches: Sequence[LayerCache]) -> tuple[Tensor, Tensor]:
        """See `EmitsRows.forward_emitting`: what the watched heads look at, float32 [tokens, heads * rows]."""
        layers = sorted({layer for layer, _ in self.watched})
        heads = {layer: [head for at, head in self.watched if at == layer] for layer in layers}
        hidden, looks = self._run(inputs, caches, heads)
        return hidden, torch.cat(looks, 1).flatten(1)

    def _run(
        self, inputs: ForwardInputs, caches: Sequence[LayerCache], watched: Mapping[int, Sequence[int]]
    ) -> tuple[Tensor, list[Tensor]]:
        (batch,) = inputs.batches
        recordings: Sequence[Recording] = inputs.memories or ()
        starts = batch.query_starts.tolist()
        looks: list[Tensor] = []
        x = self.embed(inputs.tokens) + self.places.tensor[inputs.positions]
        for index, (layer, cache) in enumerate(zip(self.layers, caches, strict=True)):
            heard = [one[index] for one in recordings]
            x = layer(x, batch, cache, heard, starts, watched.get(index, ()), looks)
        return self.norm(x), looks

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """See `CausalModel.logits`."""
        return self.head(hidden, torch.float32)

    def shape_logits(self, logits: Tensor, tokens: Sequence[Sequence[int]], prompts: Sequence[int]) -> Tensor:
        """See `ShapesLogits`: suppressed tokens, and the order of timestamps."""
        return shape_logits(self.tokens, logits, tokens, prompts)

    def weight_bytes(self) -> int:
        """See `CausalModel.weight_bytes`."""
        return sum(parameter.nbytes for _, parameter in self.parameters())


class _Source(PlainSource):
    """The checkpoint's tensors, and zeros for the biases that keys do not have."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        keys = [name for name in self.shapes if name.endswith(".k_proj.weight")]
        self._zeros = {f"{name.removesuffix('weight')}bias": self.shapes[name][:1] for name in keys}
        self.shapes |= self._zeros

    def weight(self, name: str) -> Weight:
        """See `WeightSource.weight`."""
        return Dense(torch.zeros(self._zeros[name])) if name in self._zeros else super().weight(name)

    def release(self, name: str) -> None:
        """See `WeightSource.release`."""
        if name not in self._zeros:
            super().release(name)


@torch.inference_mode()
def build(checkpoint: Checkpoint, options: BuildOptions) -> SpeechDecoder:
    """The decoder with its weights. Raises CheckpointError, and ConfigError on an unknown quantization."""
    if options.quantization not in (None, "int8"):
        raise ConfigError(
            f"quantization {options.quantization!r} is not known; known: int8", param="quantization"
        )
    config = decoder_config(checkpoint.config)
    tokens = read_tokens(checkpoint.path, checkpoint.config)
    heads = alignment_heads(checkpoint.path, checkpoint.config)
    decoder = SpeechDecoder(config, tokens, heads, options.context)
    ignored = (r"model\.encoder\..*", *((r"proj_out\.weight",) if config.tied else ()))
    loading = LoadOptions(torch.device(options.device), getattr(torch, options.dtype), options.quantization)
    load(decoder.parameters(), TABLE, _Source(checkpoint), loading, ignored)
    return decoder
