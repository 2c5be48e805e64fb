"""The arrangement most families share, so that a family states only where it differs. No torch.

Pre-norm RMS, grouped-query attention, gated feed-forward, one rope for the whole head; tensors under the names that
transformers gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutti.graph import Edge, Graph, Kind, Stage
from tutti.layers.config import AttentionConfig, FeedForwardConfig, NormConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, LayerConfig
from tutti.models.reading import Config

# Our parameters -> the checkpoint's tensors, for `weights.load`.
TABLE: dict[str, str | tuple[str, ...]] = {
    "embed": "model.embed_tokens",
    "head": "lm_head",
    "norm": "model.norm",
    "layers.{}.attention_norm": "model.layers.{}.input_layernorm",
    "layers.{}.attention.qkv": (
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.k_proj",
        "model.layers.{}.self_attn.v_proj",
    ),
    "layers.{}.attention.out": "model.layers.{}.self_attn.o_proj",
    "layers.{}.attention.q_norm": "model.layers.{}.self_attn.q_norm",
    "layers.{}.attention.k_norm": "model.layers.{}.self_attn.k_norm",
    "layers.{}.attention.sinks": "model.layers.{}.self_attn.sinks",
    "layers.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
    "layers.{}.feed_forward.up": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"),
    "layers.{}.feed_forward.down": "model.layers.{}.mlp.down_proj",
}

# Instead of the above where norms stand before and after each sublayer.
SANDWICH_NORMS: dict[str, str | tuple[str, ...]] = {
    "layers.{}.attention_out_norm": "model.layers.{}.post_attention_layernorm",
    "layers.{}.feed_forward_norm": "model.layers.{}.pre_feedforward_layernorm",
    "layers.{}.feed_forward_out_norm": "model.layers.{}.post_feedforward_layernorm",
}

# Besides the above where layers have experts.
EXPERTS: dict[str, str | tuple[str, ...]] = {
    "layers.{}.feed_forward.router": "model.layers.{}.mlp.gate",
    "layers.{}.feed_forward.experts.{}.up": (
        "model.layers.{}.mlp.experts.{}.gate_proj",
        "model.layers.{}.mlp.experts.{}.up_proj",
    ),
    "layers.{}.feed_forward.experts.{}.down": "model.layers.{}.mlp.experts.{}.down_proj",
    "layers.{}.feed_forward.shared.up": (
        "model.layers.{}.mlp.shared_experts.gate_proj",
        "model.layers.{}.mlp.shared_experts.up_proj",
    ),
    "layers.{}.feed_forward.shared.down": "model.layers.{}.mlp.shared_experts.down_proj",
}


def text_graph(family: str, *architectures: str) -> Graph:
    """The graph of a plain language model in the folder `family`: one stage, text to text."""
    return Graph(family, architectures, (language_stage("llm", family),))


def embedding_graph(family: str, *architectures: str) -> Graph:
    """The graph of an encoder of text in the folder `family`: text to a vector."""
    one = stage(family, "encoder", Kind.ONCE, "model", inputs=("text",), output="embedding")
    return Graph(family, architectures, (one,))


def score_graph(family: str, *architectures: str) -> Graph:
    """The same of one that gives scores, of texts or of pairs."""
    one = stage(family, "encoder", Kind.ONCE, "model", inputs=("text",), output="score")
    return Graph(family, architectures, (one,))


def encoder_graph(
    family: str,
    *architectures: str,
    encoder: str,
    module: str,
    inputs: tuple[str, ...],
    weights: tuple[str, ...],
    language: str | None = None,
    answers: str = "llm",
) -> Graph:
    """The graph of a language model behind an encoder of media, in the folder `family`.

    The stage `encoder`, built in `module` and described by `config:describe_{encoder}`, takes `inputs` and has the
    tensors whose names begin like one of `weights`, with "model." before it or not; the stage `answers` is of the
    folder `language`, which is the family's own unless it is named.
    """
    wrapped = tuple(f"{outer}{name}" for name in weights for outer in ("model.", ""))
    sees = stage(family, encoder, Kind.ONCE, module, inputs=inputs, weights=wrapped)
    says = language_stage(answers, language or family)
    media = f"tutti.models.{family}.media:reader"
    return Graph(family, architectures, (sees, says), (Edge(encoder, answers),), media=media)


def omni_graph(family: str, *architectures: str, follow: str, vocoder: str) -> Graph:
    """The graph of a thinker that sees and hears, and of a talker that follows it, in the folder `family`.

    `follow` names the bridge from the thinker to the talker (`module:function`); the stage `vocoder`, whose bridge is
    its module's `collect`, makes sound of the talker's codes.
    """
    home = f"tutti.models.{family}"
    stages = (
        stage(family, "audio", Kind.ONCE, "hearing", inputs=("audio",), weights=("thinker.audio_tower.",)),
        stage(family, "vision", Kind.ONCE, "sight", inputs=("image", "video"), weights=("thinker.visual.",)),
        stage(
            family,
            "thinker",
            Kind.AUTOREGRESS,
            "thinker",
            inputs=("text",),
            output="text",
            weights=("thinker.model.", "thinker.lm_head."),
        ),
        stage(family, "talker", Kind.AUTOREGRESS, "talker", weights=("talker.",)),
        stage(family, vocoder, Kind.ONCE, vocoder, output="audio", weights=(f"{vocoder}.",)),
    )
    edges = (
        Edge("audio", "thinker"),
        Edge("vision", "thinker"),
        Edge("thinker", "talker", f"{home}.{follow}"),
        Edge("talker", vocoder, f"{home}.{vocoder}:collect"),
    )
    return Graph(
        family,
        architectures,
        stages,
        edges,
        media=f"{home}.media:reader",
        narrator=f"{home}.narrator:narrator",
        switch="enable_audio_output",
    )


def stage(
    family: str,
    name: str,
    kind: Kind,
    module: str,
    *,
    inputs: tuple[str, ...] = (),
    output: str | None = None,
    weights: tuple[str, ...] = (),
) -> Stage:
    """The stage `name`, built in `module` of the folder `family` and described by its `config:describe_{name}`."""
    home = f"tutti.models.{family}"
    return Stage(
        name, kind, f"{home}.{module}:build", f"{home}.config:describe_{name}", output, inputs, weights
    )


def language_stage(name: str, family: str) -> Stage:
    """The stage `name` that writes text, of the folder `family`."""
    home = f"tutti.models.{family}"
    return Stage(
        name,
        Kind.AUTOREGRESS,
        f"{home}.model:build",
        f"{home}.config:describe",
        output="text",
        inputs=("text",),
    )


def rms_norm(config: Config, *, offset: float = 0.0) -> NormConfig:
    """The RMS norm of `rms_norm_eps`."""
    return NormConfig(eps=float(config.get("rms_norm_eps") or 1e-6), offset=offset)


def attention(config: Config) -> AttentionConfig:
    """Grouped-query attention without biases, scaled by the head's width."""
    width = reading.head_dim(config)
    return AttentionConfig(
        heads=reading.require(config, "num_attention_heads"),
        kv_heads=reading.kv_heads(config),
        head_dim=width,
        scale=width**-0.5,
    )


def feed_forward(config: Config) -> FeedForwardConfig:
    """The gated feed-forward layer without biases."""
    return FeedForwardConfig(
        intermediate=reading.require(config, "intermediate_size"),
        activation=reading.activation(config, "hidden_act", "hidden_activation"),
    )


def layers(
    config: Config, attention: AttentionConfig, feed_forward: FeedForwardConfig, types: Sequence[str]
) -> tuple[LayerConfig, ...]:
    """As many layers as `types` has, alike but for their windows."""
    return tuple(
        LayerConfig(replace(attention, window=window), feed_forward)
        for window in reading.windows(config, types)
    )


def decoder(config: Config, layers: tuple[LayerConfig, ...], *, tied: bool = False) -> DecoderConfig:
    """The decoder of these layers; `tied` is the family's default of `tie_word_embeddings`."""
    return DecoderConfig(
        hidden=reading.require(config, "hidden_size"),
        vocab=reading.require(config, "vocab_size"),
        context=reading.context(config),
        layers=layers,
        norm=rms_norm(config),
        ropes=(reading.rope(config, reading.head_dim(config)),),
        tied=bool(config.get("tie_word_embeddings", tied)),
    )
