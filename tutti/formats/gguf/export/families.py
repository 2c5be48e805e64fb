"""What config.json says, as GGUF's metadata; and which families can be written. No torch.

Only what llama.cpp's graph of the architecture computes may be written: a configuration beyond that (windows, an
unusual activation, a scaling of the rope that it does not know) is refused rather than dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.metadata import Metadata, flag, integer, number, text
from tutti.formats.gguf.mixes import Outline

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of llama.cpp: its name there, and whether queries and keys are stored with interleaved halves."""

    architecture: str
    interleaved: bool = False


FAMILIES = {
    "LlamaForCausalLM": Family("llama", interleaved=True),
    "MistralForCausalLM": Family("llama", interleaved=True),
    "Qwen2ForCausalLM": Family("qwen2"),
    "Qwen3ForCausalLM": Family("qwen3"),
}


def find_family(config: Config) -> Family:
    """The family of a config.json. Raises CheckpointError when it cannot be written as GGUF."""
    names = config.get("architectures") or ["(none named)"]
    for name in names:
        if name in FAMILIES:
            break
    else:
        raise CheckpointError(f"{names[0]} cannot be written as GGUF yet; these can: {', '.join(FAMILIES)}")
    if config.get("quantization_config"):
        raise CheckpointError(
            "the checkpoint is quantized already; quantize the original, in bfloat16 or float16"
        )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise CheckpointError(f"{name} with the activation {activation!r} has no place in GGUF; silu has")
    if _window(config) is not None:
        raise CheckpointError(
            f"{name} with a sliding window of {_window(config)} has no place in GGUF, where it would attend to all"
        )
    return FAMILIES[name]


def outline(config: Config, tied: bool) -> Outline:
    """What the mixes ask."""
    heads = int(_needed(config, "num_attention_heads"))
    return Outline(
        layers=int(_needed(config, "num_hidden_layers")),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        experts=0,
        tied=tied,
    )


def head_width(config: Config) -> int:
    """Elements of one head."""
    return int(
        config.get("head_dim") or _needed(config, "hidden_size") // _needed(config, "num_attention_heads")
    )


def describe(config: Config, family: Family) -> Metadata:
    """The configuration under GGUF's keys. Raises CheckpointError for what they cannot say."""
    shape = outline(config, tied=False)
    width = head_width(config)
    values: Metadata = {
        "block_count": integer(shape.layers),
        "context_length": integer(_needed(config, "max_position_embeddings")),
        "embedding_length": integer(_needed(config, "hidden_size")),
        "feed_forward_length": integer(_needed(config, "intermediate_size")),
        "attention.head_count": integer(shape.heads),
        "attention.head_count_kv": integer(shape.kv_heads),
        "attention.key_length": integer(width),
        "attention.value_length": integer(width),
        "attention.layer_norm_rms_epsilon": number(_needed(config, "rms_norm_eps")),
        "rope.dimension_count": integer(width),
        "rope.freq_base": number(_rope(config).get("rope_theta") or 10000.0),
        "vocab_size": integer(_needed(config, "vocab_size")),
        **_scaling(config),
    }
    prefix = family.architecture
    return {
        "general.architecture": text(prefix),
        "general.type": text("model"),
    } | {f"{prefix}.{key}": value for key, value in values.items()}


def rope_factors(config: Config) -> list[float] | None:
    """By what Llama 3's rope divides each frequency, [head width / 2]; None for other ropes.

    Waves longer than the context the model was first trained on are stretched by `factor`, short ones stay, and between
    the two there is a ramp (https://github.com/meta-llama/llama-models, `apply_scaling`).
    """
    rope = _rope(config)
    if _rope_type(rope) != "llama3":
        return None
    width, base = head_width(config), float(rope["rope_theta"])
    factor, slow, fast = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(rope["original_max_position_embeddings"])
    factors = []
    for pair in range(width // 2):
        turns = context / (2 * math.pi * base ** (2 * pair / width))  # within the first context
        ramp = min(1.0, max(0.0, (turns - slow) / (fast - slow)))
        factors.append(1 / ((1 - ramp) / factor + ramp))
    return factors


def _scaling(config: Config) -> Metadata:
    """The rope's scaling."""
    rope = _rope(config)
    kind = _rope_type(rope)
    if kind in ("default", "llama3"):  # Llama 3's is a tensor
        return {}
    if kind not in ("linear", "yarn"):
        raise CheckpointError(f"the rope's scaling {kind!r} has no place in GGUF")
    values = {"rope.scaling.type": text(kind), "rope.scaling.factor": number(rope["factor"])}
    if kind == "linear":
        return values
    unusual = [key for key in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(key) is not None]
    if unusual or rope.get("truncate") is False:
        raise CheckpointError(f"the rope's {', '.join(unusual) or 'truncate'} has no place in GGUF")
    original = rope.get("original_max_position_embeddings") or _needed(config, "max_position_embeddings")
    values["rope.scaling.original_context_length"] = integer(int(original))
    for key, name in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if rope.get(key) is not None:
            values[f"rope.scaling.{name}"] = number(rope[key])
    values["rope.scaling.finetuned"] = flag(True)
    return values


def _rope(config: Config) -> dict[str, Any]:
    """The rope's parameters, in the form of today's config.json or of older ones."""
    return {"rope_theta": config.get("rope_theta")} | (
        config.get("rope_parameters") or config.get("rope_scaling") or {}
    )


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _window(config: Config) -> int | None:
    """The sliding window, if layers use one."""
    window = config.get("sliding_window")
    used = config.get("use_sliding_window", True)
    return int(window) if window and used else None


def _needed(config: Config, key: str) -> Any:
    value = config.get(key)
    if value is None:
        raise CheckpointError(f"config.json has no {key}")
    return value
