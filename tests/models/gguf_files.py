"""GGUF files for the tests: tiny checkpoints written as llama.cpp's converter writes them.

Names are looked up in the `gguf` package's tables, layouts are changed as the converter does, by code of our own.
`MODELS` are tiny models with nothing in them that the format cannot say.
"""

from __future__ import annotations

import functools
import json
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import PreTrainedModel

from tests.gguf_files import finish
from tests.models import checkpoints
from tests.models.checkpoints import BASE, CHAT_TEMPLATE, RECIPES, SPECIALS, VOCAB, WINDOW, byte_characters
from tests.models.checkpoints.text import _deepseek, _falcon_config, gemma3_text
from tutti.formats.checkpoint import open_checkpoint

F32, F16, BF16, Q8_0 = (getattr(GGMLQuantizationType, name) for name in ("F32", "F16", "BF16", "Q8_0"))
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 64}


def _qwen2() -> PreTrainedModel:
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**BASE, rope_parameters=YARN))


def _qwen3_moe() -> PreTrainedModel:
    config = transformers.Qwen3MoeConfig(
        **BASE,
        head_dim=24,
        num_experts=6,
        num_experts_per_tok=3,
        moe_intermediate_size=64,
        norm_topk_prob=True,
    )
    return transformers.Qwen3MoeForCausalLM(config)


def _gemma2() -> PreTrainedModel:
    config = transformers.Gemma2Config(
        **BASE,
        head_dim=24,
        query_pre_attn_scalar=24,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    )
    return transformers.Gemma2ForCausalLM(config)


def _gemma3() -> PreTrainedModel:
    ropes = {
        "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
    }
    config = gemma3_text(rope_parameters=ropes)
    config.query_pre_attn_scalar = 24
    return transformers.Gemma3ForCausalLM(config)


def _phi2() -> PreTrainedModel:
    return transformers.PhiForCausalLM(transformers.PhiConfig(**BASE, partial_rotary_factor=0.5))


def _falcon() -> PreTrainedModel:
    return transformers.FalconForCausalLM(
        _falcon_config(new_decoder_architecture=True, num_kv_heads=2, bias=False)
    )


def _deepseek_v2() -> PreTrainedModel:
    return _deepseek(
        q_lora_rank=20,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        routed_scaling_factor=2.5,
        rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 0.7},
    )


# name -> (the model, llama.cpp's name of its architecture)
MODELS: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "llama": (RECIPES["llama"].build, "llama"),
    "llama-plain": (RECIPES["llama-plain"].build, "llama"),
    "llama-linear": (RECIPES["llama-linear"].build, "llama"),
    "mistral": (RECIPES["mistral"].build, "llama"),
    "qwen2": (_qwen2, "qwen2"),
    "qwen3": (RECIPES["qwen3"].build, "qwen3"),
    "qwen3moe": (_qwen3_moe, "qwen3moe"),
    "gemma2": (_gemma2, "gemma2"),
    "gemma3": (_gemma3, "gemma3"),
    "phi2": (_phi2, "phi2"),
    "phi3": (RECIPES["phi3"].build, "phi3"),
    "falcon": (_falcon, "falcon"),
    "falcon-multi-query": (RECIPES["falcon-multi-query"].build, "falcon"),
    "gpt-oss": (RECIPES["gpt_oss"].build, "gpt-oss"),
    "gptoss": (RECIPES["gpt_oss"].build, "gpt-oss"),
    "deepseek2": (_deepseek_v2, "deepseek2"),
    "deepseek2-apart": (_deepseek_v2, "deepseek2"),
    "deepseek2-lite": (RECIPES["deepseek_v2-lite"].build, "deepseek2"),
}
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _root() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tutti-gguf-")
    _KEPT.append(folder)
    return Path(folder.name)


@functools.cache
def original(name: str) -> Path:
    """The model's float32 checkpoint in Hugging Face's form, made once per session."""
    folder = _root() / name
    model = checkpoints.randomize(MODELS[name][0]()).eval()
    model.save_pretrained(folder)
    checkpoints.add_tokenizer(folder)
    return folder


@functools.cache
def reference(name: str) -> PreTrainedModel:
    """transformers' model of it."""
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        original(name), dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@functools.cache
def cached(name: str, kind: GGMLQuantizationType = F32) -> Path:
    """The model as a GGUF file whose matrices are of the type `kind`, made once per session."""
    return write(name, _root() / f"{name}.{kind.name}.gguf", kind)


def write(name: str, path: Path, kind: GGMLQuantizationType = F32, *, others: tuple[str, ...] = ()) -> Path:
    """Writes the model to `path`, and tensors of the names `others` beside it."""
    checkpoint = open_checkpoint(original(name))
    architecture = MODELS[name][1]
    config = checkpoint.config
    writer = GGUFWriter(path, "gptoss" if name == "gptoss" else architecture)
    write_config(writer, config, name)
    write_bytes_tokenizer(writer)
    tensors = {tensor: checkpoint.tensor(tensor).float().numpy() for tensor in checkpoint.tensors}
    for tensor, values in converted(name, config, tensors).items():
        if kind is not F32 and "ffn_gate_inp" not in tensor and fits(values.shape, kind):
            writer.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor, np.ascontiguousarray(values, dtype=np.float32))
    for tensor in others:
        writer.add_tensor(tensor, np.ones(4, np.float32))
    finish(writer)
    return path


def fits(shape: tuple[int, ...], kind: GGMLQuantizationType) -> bool:
    """Whether a tensor is a matrix whose rows are whole blocks of the type."""
    return len(shape) > 1 and shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0


def write_bytes_tokenizer(writer: GGUFWriter) -> None:
    """The tiny checkpoints' tokenizer: a token for each byte, and the special ones."""
    characters = byte_characters()
    tokens = [characters[byte] for byte in range(256)] + list(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * len(SPECIALS))
    writer.add_bos_token_id(SPECIALS["<s>"])
    writer.add_eos_token_id(SPECIALS["</s>"])
    writer.add_pad_token_id(SPECIALS["<pad>"])
    writer.add_chat_template(CHAT_TEMPLATE)
    assert len(tokens) == VOCAB


def write_config(writer: GGUFWriter, config: dict[str, Any], name: str) -> None:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    if config["model_type"] == "falcon":
        kv_heads = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
    head = config.get("head_dim") or hidden // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config.get("intermediate_size") or config["ffn_hidden_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    if "layer_norm_epsilon" in config or "layer_norm_eps" in config:
        writer.add_layer_norm_eps(config.get("layer_norm_epsilon") or config["layer_norm_eps"])
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "deepseek" not in name:
        writer.add_key_length(head)
        writer.add_value_length(head)
        partial = (config.get("rope_parameters") or {}).get("partial_rotary_factor") or 1.0
        writer.add_rope_dimension_count(int(head * partial))
    _write_rope(writer, config)
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if config["model_type"].startswith("gemma3"):
        writer.add_array(
            f"{writer.arch}.attention.sliding_window_pattern",
            [kind == "sliding_attention" for kind in config["layer_types"]],
        )
    if "gemma2" in name:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    experts = config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        width = config.get("moe_intermediate_size") or config["intermediate_size"]
        writer.add_expert_feed_forward_length(width)
    if "deepseek" in name:
        _write_deepseek(writer, config, apart="apart" in name)


def _write_rope(writer: GGUFWriter, config: dict[str, Any]) -> None:
    rope = config["rope_parameters"]
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if local:
        writer.add_rope_freq_base_swa(local["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "mscale_all_dim" in rope:
            writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if rope["rope_type"] == "longrope":
        original = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / original
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(original)))


def _write_deepseek(writer: GGUFWriter, config: dict[str, Any], *, apart: bool) -> None:
    key = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    rank = config["kv_lora_rank"]
    if config.get("q_lora_rank"):
        writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_kv_lora_rank(rank)
    writer.add_rope_dimension_count(config["qk_rope_head_dim"])
    writer.add_key_length(rank + config["qk_rope_head_dim"] if apart else key)
    writer.add_value_length(rank if apart else config["v_head_dim"])
    if apart:
        writer.add_key_length_mla(key)
        writer.add_value_length_mla(config["v_head_dim"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    if config.get("topk_method") == "group_limited_greedy":
        writer.add_expert_group_count(config["n_group"])
        writer.add_expert_group_used_count(config["topk_group"])


def converted(name: str, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file's tensors by llama.cpp's names."""
    architecture = MODELS[name][1]
    kind = next(one for one, known in gguf.MODEL_ARCH_NAMES.items() if known == architecture)
    table = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    tensors = _stacked(tensors) if "experts" in " ".join(tensors) else tensors
    found: dict[str, np.ndarray] = {}
    for tensor, values in tensors.items():
        if tensor == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if architecture == "gpt-oss" and ".experts." in tensor:
            found |= _gpt_oss_experts(tensor, values)
            continue
        known = tensor if tensor.endswith((".weight", ".bias")) else f"{tensor}.weight"
        new = table.get_name(known, try_suffixes=(".weight", ".bias"))
        assert new is not None, tensor
        found |= _changed(name, config, new, values)
    rope = config["rope_parameters"]
    if rope.get("rope_type") == "llama3":
        found["rope_freqs.weight"] = _llama3_factors(rope, config["head_dim"])
    if rope.get("rope_type") == "longrope":
        for which in ("long", "short"):
            found[f"rope_factors_{which}.weight"] = np.array(rope[f"{which}_factor"], np.float32)
    if name == "gptoss":  # as the other converter names them
        renamed = {
            "attn_output": "attn_out",
            "attn_sinks.weight": "attn_sinks",
            "post_attention_norm": "ffn_norm",
        }
        found = {
            functools.reduce(lambda text, one: text.replace(*one), renamed.items(), new): values
            for new, values in found.items()
        }
    return found


def _stacked(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts that stand alone, one stack for all of a layer."""
    found: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for tensor, values in tensors.items():
        match = re.fullmatch(r"(.*\.mlp\.experts)\.(\d+)\.(.*)", tensor)
        if match is None:
            found[tensor] = values
        else:
            stacks.setdefault(f"{match[1]}.{match[3]}", [None] * 64)[int(match[2])] = values  # type: ignore[list-item]
    return found | {
        name: np.stack([one for one in stack if one is not None]) for name, stack in stacks.items()
    }


def _changed(name: str, config: dict[str, Any], new: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """What the converter makes of one tensor."""
    heads = config["num_attention_heads"]
    if MODELS[name][1] == "llama" and re.search(r"attn_[qk]\.", new):
        count = heads if "attn_q" in new else config["num_key_value_heads"]
        return {new: values.reshape(count, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)}
    if name.startswith("gemma") and new.endswith("norm.weight"):
        return {new: values + np.float32(1)}
    if name.startswith("falcon") and "attn_qkv" in new:
        kv_heads = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
        groups = values.reshape(kv_heads, heads // kv_heads + 2, config["hidden_size"] // heads, -1)
        parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
        return {new: np.concatenate([part.reshape(-1, values.shape[1]) for part in parts])}
    if name == "deepseek2-apart" and "attn_kv_b" in new:
        both = values.reshape(heads, -1, values.shape[1])
        key, value = np.split(both, [config["qk_nope_head_dim"]], axis=1)
        return {new.replace("kv_b", "k_b"): key.transpose(0, 2, 1), new.replace("kv_b", "v_b"): value}
    return {new: values}


def _gpt_oss_experts(tensor: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Gate and up apart, whose columns alternate."""
    layer, suffix = tensor.split(".")[2], "bias" if tensor.endswith("_bias") else "weight"
    values = values if suffix == "bias" else values.swapaxes(1, 2)
    prefix = f"blk.{layer}.ffn"
    if "gate_up" not in tensor:
        return {f"{prefix}_down_exps.{suffix}": values}
    return {f"{prefix}_gate_exps.{suffix}": values[:, ::2], f"{prefix}_up_exps.{suffix}": values[:, 1::2]}


def _llama3_factors(rope: dict[str, Any], width: int) -> np.ndarray:
    """What Llama 3's frequencies are divided by."""
    factors = []
    for index in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / width)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def config_of(name: str) -> dict[str, Any]:
    """The original's config.json."""
    value: dict[str, Any] = json.loads((original(name) / "config.json").read_text())
    return value
