"""Describing a model nobody here knows, from config.json alone: its layers, heads, windows and context. No torch.

Configurations name the same thing differently; `normalized` brings the names together. What is read here is held
against what transformers does when the model is built (see `probe`), so that a misreading is refused, never served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutti.errors import CheckpointError
from tutti.graph import KVGroup, StageShape
from tutti.models import reading
from tutti.models.reading import Config

# The usual name -> names that some configurations give the same value.
ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads"),
    "num_key_value_heads": ("num_kv_heads",),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
}

REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)

# Keys that configurations of models with recurrent or convolutional layers have.
STATE_KEYS = (
    "state_size",
    "ssm_state_size",
    "mamba_d_state",
    "mamba_d_conv",
    "conv_L_cache",
    "linear_num_key_heads",
    "lru_width",
    "rescale_every",
    "attn_layer_period",
    "hybrid_override_pattern",
)

SUPPORTED = (
    "supported without a family are decoders whose every layer attends, over all tokens or a sliding window"
)


def claims(config: Config) -> bool:
    """Whether it calls itself a causal language model."""
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or ())


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan. Raises CheckpointError for what is not a plain decoder."""
    config = normalized(config)
    hidden = int(reading.require(config, "hidden_size"))
    inner = config.get("moe_intermediate_size") or config.get("intermediate_size") or 4 * hidden
    active = config.get("num_experts_per_tok") or 1
    return StageShape(
        groups(config), context(config), hidden, 2 * inner * active, reading.require(config, "vocab_size")
    )


def normalized(config: Config) -> Config:
    """The configuration with its values under the usual names. Raises CheckpointError for other kinds of models."""
    found = [key for key in STATE_KEYS if config.get(key) is not None]
    if found:
        raise refused(
            config,
            f"config.json has {', '.join(found)}, which says that layers keep a state instead of keys and values",
        )
    values: dict[str, Any] = dict(config)
    for name, others in ALIASES.items():
        if values.get(name) is None:
            values[name] = next((config[other] for other in others if config.get(other) is not None), None)
    absent = [name for name in REQUIRED if values.get(name) is None]
    if absent:
        raise refused(config, f"config.json has no {', '.join(absent)}")
    types = set(config.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if types:
        raise refused(config, f"it has layers of {', '.join(sorted(types))}")
    return values


def refused(config: Config, why: str) -> CheckpointError:
    """The error of a model that cannot be served without a family."""
    return CheckpointError(f"{reading.architecture(config)} is not supported: {why}; {SUPPORTED}")


def context(config: Config) -> int:
    """The longest sequence, in tokens.

    LongRoPE ends at its original context here: transformers switches its factors when the longest sequence of a batch
    grows past it, and an answer must not depend on the batch.
    """
    longest, values = reading.context(config), reading.rope_values(config)
    if values.get("rope_type", values.get("type")) in ("longrope", "su"):
        return min(longest, reading.original_context(config, values))
    return longest


def groups(config: Config) -> tuple[KVGroup, ...]:
    """The layers that page alike."""
    key_dim, value_dim = head_dims(config)
    members: dict[int | None, list[int]] = {}
    for layer, window in enumerate(windows(config)):
        members.setdefault(window, []).append(layer)
    return tuple(
        KVGroup(
            "full" if window is None else "window",
            tuple(layers),
            kv_heads(config),
            key_dim,
            value_dim,
            window,
        )
        for window, layers in members.items()
    )


def head_dims(config: Config) -> tuple[int, int]:
    """The widths of a head's keys and values; where latents are expanded before attention they differ."""
    if config.get("kv_lora_rank"):
        key = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
        return key, reading.require(config, "v_head_dim")
    width = reading.head_dim(config)
    return width, width


def kv_heads(config: Config) -> int:
    """KV heads: one with `multi_query`."""
    return 1 if config.get("multi_query") else reading.kv_heads(config)


def windows(config: Config) -> tuple[int | None, ...]:
    """Each layer's sliding window: by `layer_types`, by a pattern, from a layer on, or everywhere."""
    count = int(reading.require(config, "num_hidden_layers"))
    if config.get("use_sliding_window") is False or not config.get("sliding_window"):
        default = ["full_attention"] * count
    elif isinstance(every := config.get("sliding_window_pattern"), int):
        default = ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(count)]
    else:
        first = config.get("max_window_layers") or 0
        default = ["full_attention" if layer < first else "sliding_attention" for layer in range(count)]
    return reading.windows(config, reading.layer_types(config, default))


def layer_groups(groups: tuple[KVGroup, ...]) -> Mapping[int, int]:
    """Each layer's index into `groups`."""
    return {layer: index for index, group in enumerate(groups) for layer in group.layers}
