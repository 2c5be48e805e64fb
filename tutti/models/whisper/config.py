"""Whisper's configuration. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from tutti.graph import KVGroup, StageShape
from tutti.layers.config import AttentionConfig, FeedForwardConfig
from tutti.models import reading
from tutti.models.reading import Config

RECORDINGS_A_STEP = 4  # heard together, each as 30 seconds


@dataclass(frozen=True, slots=True)
class SpeechDecoderConfig:
    """The decoder: layers of self-attention, attention over the encoder's `sources` rows, and a plain feed-forward."""

    hidden: int
    vocab: int
    context: int
    layers: int
    sources: int
    attention: AttentionConfig  # of both kinds
    feed_forward: FeedForwardConfig
    tied: bool

    @property
    def group(self) -> KVGroup:
        """How the self-attention's cache pages."""
        return self.attention.kv_group(tuple(range(self.layers)))

    @property
    def memory(self) -> int:
        """Numbers in the keys and values of one recording, in all layers."""
        return 2 * self.layers * self.sources * self.hidden


def decoder_config(config: Config) -> SpeechDecoderConfig:
    """The decoder that config.json describes."""
    hidden = reading.require(config, "d_model")
    heads = reading.require(config, "decoder_attention_heads")
    width = hidden // heads
    attention = AttentionConfig(heads, heads, width, width**-0.5, rope=None, bias=True, out_bias=True)
    return SpeechDecoderConfig(
        hidden=hidden,
        vocab=reading.require(config, "vocab_size"),
        context=config.get("max_target_positions") or 448,
        layers=reading.require(config, "decoder_layers"),
        sources=window_rows(config),
        attention=attention,
        feed_forward=FeedForwardConfig(
            intermediate=reading.require(config, "decoder_ffn_dim"),
            activation=reading.activation(config, "activation_function", default="gelu"),
            gated=False,
            bias=True,
        ),
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def window_rows(config: Config) -> int:
    """The encoder's rows: of a full window, for it hears every recording as one. 1500 in 30 seconds."""
    return int(config.get("max_source_positions") or 1500)


def window_frames(config: Config) -> int:
    """Frames of the spectrogram that the encoder takes; its convolutions halve them."""
    return 2 * window_rows(config)


def describe(config: Config) -> StageShape:
    """See `Stage.describe`."""
    decoder = decoder_config(config)
    return StageShape(
        (decoder.group,),
        decoder.context,
        decoder.hidden,
        decoder.feed_forward.intermediate,
        decoder.vocab,
        memory=decoder.memory,
    )


def describe_encoder(config: Config) -> StageShape:
    """See `Stage.describe`; the encoder of an architecture that has its kind, too."""
    rows = RECORDINGS_A_STEP * window_frames(config)
    return StageShape((), 0, config.get("d_model", 1280), config.get("encoder_ffn_dim", 5120), 0, rows)


def describe_aligner(config: Config) -> StageShape:
    """See `Stage.describe`; it has no layers, and works on one window at a time."""
    return StageShape((), 0, window_rows(config), 0, 0, config.get("max_target_positions") or 448)
