"""From a GGUF file's metadata to the config.json that the model had before it was converted. No torch.

One function for each architecture that is served; `read_config` chooses it. Keys have the names that transformers gives
them. What the file does not say is what the model's class has by default.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks.kinds import F32, PLAIN
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.reader import GGUFFile
from tutti.formats.gguf.tokens import end_ids

Config = dict[str, Any]


def read_config(file: GGUFFile) -> Config:
    """The configuration. Raises CheckpointError for an architecture that is not served."""
    keys = Keys(file)
    read = ARCHITECTURES.get(keys.architecture)
    if read is None:
        what = repr(keys.architecture) if keys.architecture else "unnamed"
        raise CheckpointError(
            f"{file.path}: the architecture is {what}, which is not supported as GGUF; "
            f"supported: {', '.join(sorted(ARCHITECTURES))}"
        )
    if not _has_layers(keys):
        raise CheckpointError(
            f"{file.path}: {keys.name('.block_count')} says {keys.whole('.block_count')} layers, which are not the "
            "tensors' own"
        )
    return read(keys)


def _has_layers(keys: Keys) -> bool:
    """Whether the last layer that is announced is there, and none behind it."""
    found = {name.split(".")[1] for name in keys.file.tensors if name.startswith("blk.")}
    count = keys.require(".block_count")
    return len(found) == count and str(count - 1) in found


def _common(keys: Keys, architecture: str, model_type: str) -> Config:
    """What all architectures have."""
    heads, hidden = keys.require(".attention.head_count"), keys.require(".embedding_length")
    table = keys.file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise CheckpointError(f"{keys.file.path}: there is no embedding table (token_embd.weight)")
    width = keys.whole(".attention.key_length") or hidden // heads
    if not width:
        raise CheckpointError(f"{keys.file.path}: {heads} heads for {hidden} columns")
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "dtype": _dtype(keys.file),
        "hidden_size": hidden,
        "intermediate_size": keys.whole(".feed_forward_length"),
        "num_hidden_layers": keys.require(".block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole(".attention.head_count_kv") or heads,
        "head_dim": width,
        "max_position_embeddings": keys.require(".context_length"),
        "vocab_size": table.shape[0],
        "tie_word_embeddings": "output.weight" not in keys.file.tensors,
        "rms_norm_eps": keys.number(".attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.number(".rope.freq_base"),
        "rope_scaling": _scaling(keys),
        "bos_token_id": keys.whole("tokenizer.ggml.bos_token_id"),
        "eos_token_id": end_ids(keys),
    }
    if keys.whole(".pooling_type") in (1, 2, 3):  # it makes vectors
        config["pooling"] = {"kind": POOLINGS[keys.whole(".pooling_type")]}
    return {key: value for key, value in config.items() if value is not None}


def _dtype(file: GGUFFile) -> str:
    """The type to compute in: that of most elements, bfloat16 where those are quantized."""
    counts: dict[str, int] = {}
    for place in file.tensors.values():
        if len(place.shape) > 1:
            name = PLAIN.get(place.type, "bfloat16")
            counts[name] = counts.get(name, 0) + math.prod(place.shape)
    return max(counts, key=lambda name: counts[name], default="float32")


def _scaling(keys: Keys) -> Config | None:
    """How rope's frequencies are scaled, as `rope_scaling` says it."""
    own = _factors(keys, "rope_freqs.weight")
    if own:  # frequencies divided by factors worked out beforehand, which is how Llama 3's scaling is stored
        context = keys.require(".context_length")
        return _longrope(own, own, context, 1.0)
    long, short = (_factors(keys, f"rope_factors_{which}.weight") for which in ("long", "short"))
    if long and short:
        original = keys.whole(".rope.scaling.original_context_length") or keys.require(".context_length")
        return _longrope(short, long, original, keys.number(".rope.scaling.attn_factor"))
    kind = keys.text(".rope.scaling.type") or "none"
    factor = keys.number(".rope.scaling.factor") or keys.number(".rope.scale_linear")
    if kind == "yarn" and factor:
        return _yarn(keys, factor)
    if factor and factor != 1 and kind in ("linear", "none"):
        return {"rope_type": "linear", "factor": factor}
    if kind in ("none", "linear"):
        return None
    raise CheckpointError(
        f"{keys.file.path}: rope scaled by {kind!r} is not supported, or its factors are missing"
    )


def _longrope(short: list[float], long: list[float], original: int, magnitude: float | None) -> Config:
    found = {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "attention_factor": magnitude,
    }
    return {**found, "original_max_position_embeddings": original}


def _yarn(keys: Keys, factor: float) -> Config:
    found: Config = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.whole(".rope.scaling.original_context_length"),
        "beta_fast": keys.number(".rope.scaling.yarn_beta_fast"),
        "beta_slow": keys.number(".rope.scaling.yarn_beta_slow"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _factors(keys: Keys, name: str) -> list[float] | None:
    """The factors of rope's frequencies in the tensor `name`, None where there is none."""
    place = keys.file.tensors.get(name)
    if place is None:
        return None
    if place.type != F32 or len(place.shape) != 1:
        raise CheckpointError(f"{keys.file.path}: {name} is no vector of float32")
    block = keys.file.data[place.offset : place.offset + place.nbytes]
    found = list(struct.unpack(f"<{place.shape[0]}f", block))
    if not all(factor > 0 for factor in found):
        raise CheckpointError(f"{keys.file.path}: {name} has factors that are not positive")
    return found


def _llama(keys: Keys) -> Config:
    """Llama and Mistral, which differ in their windows alone."""
    if keys.whole(".expert_count"):
        raise CheckpointError(
            f"{keys.file.path}: a mixture of experts of the architecture 'llama' is not supported as GGUF"
        )
    window = keys.whole(".attention.sliding_window")
    if window:
        return _common(keys, "MistralForCausalLM", "mistral") | {"sliding_window": window}
    config = _common(keys, "LlamaForCausalLM", "llama")
    tensors = keys.file.tensors
    return config | {
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
    }


def _qwen2(keys: Keys) -> Config:
    return _common(keys, "Qwen2ForCausalLM", "qwen2")


def _qwen3(keys: Keys) -> Config:
    return _common(keys, "Qwen3ForCausalLM", "qwen3")


def _qwen3moe(keys: Keys) -> Config:
    """Layers without experts are told by their tensors. The chosen experts' weights sum to one."""
    count = keys.require(".block_count")
    tensors = keys.file.tensors
    dense = [layer for layer in range(count) if f"blk.{layer}.ffn_gate_inp.weight" not in tensors]
    normed = keys.flag(".expert_weights_norm")
    return _common(keys, "Qwen3MoeForCausalLM", "qwen3_moe") | {
        "intermediate_size": keys.whole(".feed_forward_length") or 0,
        "num_experts": keys.require(".expert_count"),
        "num_experts_per_tok": keys.require(".expert_used_count"),
        "moe_intermediate_size": keys.require(".expert_feed_forward_length"),
        "norm_topk_prob": True if normed is None else normed,
        "mlp_only_layers": dense,
    }


def _gemma2(keys: Keys) -> Config:
    """The 27B's queries are scaled by the width per head, the others' by a head's own width."""
    config = _common(keys, "Gemma2ForCausalLM", "gemma2")
    return config | {
        "query_pre_attn_scalar": _query_scalar(keys, config, largest=46),
        "sliding_window": keys.whole(".attention.sliding_window") or 4096,
        "attn_logit_softcapping": keys.number(".attn_logit_softcapping") or 50.0,
        "final_logit_softcapping": keys.number(".final_logit_softcapping") or 30.0,
    }


def _gemma3(keys: Keys) -> Config:
    """Every sixth layer attends to all, the others to a window with a rope of their own."""
    config = _common(keys, "Gemma3ForCausalLM", "gemma3_text")
    ropes = {
        "full_attention": {
            "rope_theta": config.get("rope_theta", 1e6),
            **(config.pop("rope_scaling", None) or {}),
        },
        "sliding_attention": {
            "rope_theta": keys.number(".rope.freq_base_swa") or 1e4,
            "rope_type": "default",
        },
    }
    ropes["full_attention"].setdefault("rope_type", "default")
    every, pattern = 6, keys.file.metadata.get(keys.name(".attention.sliding_window_pattern"))
    if isinstance(pattern, int) and not isinstance(pattern, bool):
        every = keys.require(".attention.sliding_window_pattern")
    windowed = [bool((layer + 1) % every) for layer in range(config["num_hidden_layers"])]
    if pattern is not None and not isinstance(pattern, int):
        windowed = [bool(one) for one in keys.numbers(".attention.sliding_window_pattern")]
    return config | {
        "query_pre_attn_scalar": _query_scalar(keys, config, largest=62),
        "sliding_window": keys.whole(".attention.sliding_window") or 1024,
        "layer_types": ["sliding_attention" if one else "full_attention" for one in windowed],
        "rope_parameters": ropes,
        "final_logit_softcapping": keys.number(".final_logit_softcapping"),
    }


def _query_scalar(keys: Keys, config: Config, largest: int) -> float:
    """What queries are scaled by, which files seldom say: only the family's largest (by its layers) is different."""
    scale = keys.number(".attention.scale")
    if scale and scale > 1e-9:
        return scale**-2
    if config["num_hidden_layers"] == largest:
        return config["hidden_size"] / config["num_attention_heads"]
    return float(config["head_dim"])


def _phi2(keys: Keys) -> Config:
    config = _common(keys, "PhiForCausalLM", "phi")
    return config | {
        "layer_norm_eps": keys.number(".attention.layer_norm_epsilon") or 1e-5,
        "partial_rotary_factor": _partial(keys, config),
        "hidden_act": "gelu_new",
    }


def _phi3(keys: Keys) -> Config:
    config = _common(keys, "Phi3ForCausalLM", "phi3")
    config["sliding_window"] = keys.whole(".attention.sliding_window") or None
    original = keys.whole(".rope.scaling.original_context_length")
    return config | {
        "partial_rotary_factor": _partial(keys, config),
        "original_max_position_embeddings": original or config["max_position_embeddings"],
    }


def _partial(keys: Keys, config: Config) -> float:
    """The share of a head's columns that turn."""
    return (keys.whole(".rope.dimension_count") or config["head_dim"]) / config["head_dim"]


def _falcon(keys: Keys) -> Config:
    """The generations are told by their norms: the new one has two before a layer."""
    config = _common(keys, "FalconForCausalLM", "falcon")
    grouped = "blk.0.attn_norm_2.weight" in keys.file.tensors
    kv_heads = config["num_key_value_heads"]
    return config | {
        "new_decoder_architecture": grouped,
        "num_kv_heads": kv_heads,
        "multi_query": kv_heads == 1,
        "parallel_attn": True,
        "bias": False,
        "alibi": False,
        "ffn_hidden_size": config.get("intermediate_size") or 4 * config["hidden_size"],
        "layer_norm_epsilon": keys.number(".attention.layer_norm_epsilon") or 1e-5,
    }


def _gpt_oss(keys: Keys) -> Config:
    """The experts' width stands beside a feed-forward layer's that no layer has. YaRN's ramp is not rounded."""
    config = _common(keys, "GptOssForCausalLM", "gpt_oss")
    if isinstance(scaling := config.get("rope_scaling"), dict) and scaling["rope_type"] == "yarn":
        scaling["truncate"] = False
    width = keys.whole(".expert_feed_forward_length") or keys.require(".feed_forward_length")
    return config | {
        "intermediate_size": width,
        "num_local_experts": keys.require(".expert_count"),
        "num_experts_per_tok": keys.require(".expert_used_count"),
        "sliding_window": keys.whole(".attention.sliding_window") or 128,
    }


def _deepseek2(keys: Keys) -> Config:
    """Latent attention. Newer files state the compressed widths, and a head's own under keys that end in "_mla"."""
    if keys.whole(".expert_gating_func") not in (None, 0, 1):
        raise CheckpointError(
            f"{keys.file.path}: experts chosen by a sigmoid (DeepSeek-V3) are not supported as GGUF"
        )
    config = _common(keys, "DeepseekV2ForCausalLM", "deepseek_v2")
    rope = keys.require(".rope.dimension_count")
    key = keys.whole(".attention.key_length_mla") or keys.require(".attention.key_length")
    if key <= rope:
        raise CheckpointError(f"{keys.file.path}: heads of {key} columns, {rope} of which turn")
    scale, scaling = keys.number(".rope.scaling.yarn_log_multiplier"), config.get("rope_scaling")
    if (
        scale and scaling is not None
    ):  # a tenth of `mscale_all_dim`, which published models have as `mscale` too
        config["rope_scaling"] = scaling | {"mscale": scale * 10, "mscale_all_dim": scale * 10}
    groups = keys.whole(".expert_group_count") or 1
    config |= {
        "num_key_value_heads": config["num_attention_heads"],
        "head_dim": rope,
        "q_lora_rank": keys.whole(".attention.q_lora_rank") or None,
        "kv_lora_rank": keys.require(".attention.kv_lora_rank"),
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": keys.whole(".attention.value_length_mla") or keys.require(".attention.value_length"),
        "first_k_dense_replace": keys.whole(".leading_dense_block_count") or 0,
        "n_routed_experts": keys.require(".expert_count"),
        "num_experts_per_tok": keys.require(".expert_used_count"),
        "n_shared_experts": keys.whole(".expert_shared_count"),
        "moe_intermediate_size": keys.require(".expert_feed_forward_length"),
        "routed_scaling_factor": keys.number(".expert_weights_scale") or 1.0,
        "norm_topk_prob": bool(keys.flag(".expert_weights_norm")),
    }
    if groups > 1:
        config |= {
            "topk_method": "group_limited_greedy",
            "n_group": groups,
            "topk_group": keys.require(".expert_group_used_count"),
        }
    return config


def _bert(keys: Keys) -> Config:
    """An encoder of text; files are in float16 to be small, and computed in float32."""
    kinds = keys.file.tensors.get("token_types.weight")
    config = _common(keys, "BertModel", "bert") | {
        "dtype": "float32",
        "layer_norm_eps": keys.number(".attention.layer_norm_epsilon") or 1e-12,
        "type_vocab_size": 1 if kinds is None else kinds.shape[0],
        "hidden_act": "gelu",
    }
    if _scores(keys):
        return config | _reranker(keys)
    return config | {"pooling": {"kind": _pooling(keys)}}


def _scores(keys: Keys) -> bool:
    """Whether the file is of a reranker: it says so, or has a head that scores."""
    return keys.whole(".pooling_type") == RANK or any(
        f"{head}.weight" in keys.file.tensors for head in ("cls", "cls.output")
    )


def _reranker(keys: Keys) -> Config:
    """A RoBERTa with a head. Its positions begin at 0: the converter leaves out the rows that are never used.

    Raises CheckpointError for a BERT's, whose converter leaves out the first layer of its head.
    """
    tensors = keys.file.tensors
    out = tensors.get("cls.output.weight")
    if out is None or "cls.weight" not in tensors:
        raise CheckpointError(
            f"{keys.file.path}: a reranker whose head is not whole (cls.weight and cls.output.weight); take its "
            "safetensors"
        )
    return {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "model_type": "xlm-roberta",
        "num_labels": out.shape[0],
        "pad_token_id": -1,
    }


def _nomic_bert(keys: Keys) -> Config:
    """The same with rotary positions."""
    config = _bert(keys)
    return config | {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "rotary_emb_base": keys.number(".rope.freq_base") or 1000.0,
    }


def _pooling(keys: Keys) -> str:
    """How vectors are made of hidden states, in `models.processor.pooling`'s words. Raises CheckpointError."""
    found = keys.whole(".pooling_type")
    if found not in POOLINGS:
        raise CheckpointError(
            f"{keys.file.path}: {keys.name('.pooling_type')} is {found}, which is not supported"
        )
    return POOLINGS[found]


POOLINGS = {None: "mean", 1: "mean", 2: "cls", 3: "lasttoken"}
RANK = 4

# The names that files give architectures; converters do not agree on all of them.
ARCHITECTURES: dict[str, Callable[[Keys], Config]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi2": _phi2,
    "phi3": _phi3,
    "falcon": _falcon,
    "gpt-oss": _gpt_oss,
    "gptoss": _gpt_oss,
    "deepseek2": _deepseek2,
    "bert": _bert,
    "nomic-bert": _nomic_bert,
}
