"""Reading a checkpoint's config.json into decoder values: names, defaults and history that families share.

Published configurations come in two generations: `rope_parameters` (transformers 5) and, before it, `rope_theta` with
`rope_scaling`. Both are read here, to the same values that transformers reaches. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tutti.errors import CheckpointError
from tutti.layers.config import (
    FactorScaling,
    LinearScaling,
    RopeConfig,
    RopeScaling,
    WavelengthScaling,
    YarnScaling,
)

Config = Mapping[str, Any]

# Activations by the names configurations use -> the kernels' names.
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
}


def require(config: Config, key: str) -> Any:
    """The value of `key`. Raises CheckpointError when the configuration has none."""
    value = config.get(key)
    if value is None:
        raise CheckpointError(f"config.json has no {key!r}, which {architecture(config)} needs")
    return value


def architecture(config: Config) -> str:
    """The configuration's architecture, for messages."""
    return ", ".join(config.get("architectures") or ()) or str(config.get("model_type", "an unnamed model"))


def activation(config: Config, *keys: str, default: str = "silu") -> str:
    """The kernels' name of the activation that the first present key names. Raises CheckpointError."""
    name = next((config[key] for key in keys if config.get(key)), default)
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json: activation {name!r} is not supported; known: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def head_dim(config: Config) -> int:
    """Width of a head: `head_dim`, or the hidden width divided among the heads."""
    return int(
        config.get("head_dim") or require(config, "hidden_size") // require(config, "num_attention_heads")
    )


def kv_heads(config: Config) -> int:
    """KV heads: as many as query heads unless the configuration says otherwise."""
    return int(config.get("num_key_value_heads") or require(config, "num_attention_heads"))


def layer_types(config: Config, default: str | Sequence[str] = "full_attention") -> tuple[str, ...]:
    """Each layer's kind of attention: `layer_types`, or `default` (one kind for all, or one per layer)."""
    count = require(config, "num_hidden_layers")
    types = config.get("layer_types") or ((default,) * count if isinstance(default, str) else default)
    if len(types) != count:
        raise CheckpointError(f"config.json: {len(types)} layer_types for {count} layers")
    unknown = sorted(set(types) - {"full_attention", "sliding_attention"})
    if unknown:
        raise CheckpointError(f"config.json: layer types {', '.join(unknown)} are not supported")
    return tuple(types)


def windows(config: Config, types: Sequence[str]) -> tuple[int | None, ...]:
    """Each layer's sliding window by its type, None for full attention. A window as long as the context is none."""
    window = config.get("sliding_window")
    if window is None or window >= context(config):
        return (None,) * len(types)
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def context(config: Config) -> int:
    """The longest sequence in tokens.

    YaRN stretches the original context by its factor even where `max_position_embeddings` still states the original.
    """
    longest = int(require(config, "max_position_embeddings"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) == "yarn" and rope.get("factor"):
        original = rope.get("original_max_position_embeddings") or longest
        longest = max(longest, int(original * rope["factor"]))
    return longest


def rope(config: Config, dim: int, *, layer_type: str | None = None, theta: float = 10_000.0) -> RopeConfig:
    """The rotary embedding of `dim` columns: of all layers, or of those of `layer_type` where ropes are given by type.

    `theta` is the base when the configuration has none. Raises CheckpointError.
    """
    values = rope_values(config, layer_type)
    base = float(values.get("rope_theta") or config.get("rope_theta") or theta)
    return RopeConfig(dim, base, rope_scaling(config, values))


def rope_values(config: Config, layer_type: str | None = None) -> Config:
    """The rope's own section of the configuration, of either generation."""
    values = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if layer_type is not None and isinstance(values.get(layer_type), Mapping):
        values = values[layer_type]
    return values


def rotary_dim(config: Config, default: float = 1.0) -> int:
    """The columns of a head that turn: int(head_dim * partial_rotary_factor)."""
    partial = rope_values(config).get("partial_rotary_factor", config.get("partial_rotary_factor"))
    return int(head_dim(config) * (default if partial is None else partial))


def rope_scaling(config: Config, values: Config) -> RopeScaling | None:
    """How frequencies are scaled, from the rope's section `values`. Raises CheckpointError."""
    kind = values.get("rope_type", values.get("type", "default"))
    match kind:
        case "default" | "mrope":
            return None
        case "dynamic":
            return None  # it begins beyond max_position_embeddings, which is as far as we go
        case "linear":
            return LinearScaling(float(require(values, "factor")))
        case "llama3":
            return WavelengthScaling(
                float(require(values, "factor")),
                float(require(values, "low_freq_factor")),
                float(require(values, "high_freq_factor")),
                original_context(config, values),
            )
        case "yarn":
            return _yarn(config, values)
        case "longrope" | "su":
            return _longrope(config, values)
    raise CheckpointError(f"config.json: rope type {kind!r} is not supported")


def original_context(config: Config, values: Config) -> int:
    """The context before it was stretched; the configuration's own key goes before the rope's."""
    key = "original_max_position_embeddings"
    return int(config.get(key) or values.get(key) or require(config, "max_position_embeddings"))


def _yarn(config: Config, values: Config) -> YarnScaling:
    original = original_context(config, values)
    factor = values.get("factor") or require(config, "max_position_embeddings") / original

    def magnitude(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    given, scale, scale_all = (values.get(key) for key in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is None:
        given = magnitude(scale) / magnitude(scale_all) if scale and scale_all else magnitude(1.0)
    return YarnScaling(
        float(factor),
        original,
        float(values.get("beta_fast") or 32),
        float(values.get("beta_slow") or 1),
        float(given),
        bool(values.get("truncate", True)),
    )


def _longrope(config: Config, values: Config) -> FactorScaling:
    original = original_context(config, values)
    stretch = values.get("factor") or require(config, "max_position_embeddings") / original
    magnitude = values.get("attention_factor")
    if magnitude is None:
        magnitude = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))
    short, long = (
        tuple(float(factor) for factor in require(values, key)) for key in ("short_factor", "long_factor")
    )
    return FactorScaling(short, long, original, float(magnitude))
