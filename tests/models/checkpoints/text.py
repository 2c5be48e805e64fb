"""Tiny language models."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import PreTrainedModel

from tests.models.checkpoints.base import BASE, IDS, VOCAB, WINDOW, recipe


@recipe("llama")
def _llama() -> PreTrainedModel:
    """With Llama 3's rope, biases, heads that do not divide the hidden width, and an untied head."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    config = transformers.LlamaConfig(
        **BASE, head_dim=24, attention_bias=True, mlp_bias=True, rope_parameters=rope
    )
    return transformers.LlamaForCausalLM(config)


@recipe("llama-plain")
def _llama_plain() -> PreTrainedModel:
    """Llama 2: no biases, plain rope; the head tied."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**BASE, tie_word_embeddings=True))


@recipe("llama-linear")
def _llama_linear() -> PreTrainedModel:
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**BASE, rope_parameters=rope))


@recipe("mistral")
def _mistral() -> PreTrainedModel:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**BASE, sliding_window=WINDOW))


@recipe("qwen2")
def _qwen2() -> PreTrainedModel:
    """Windows in the last layer only; YaRN, whose ramp covers several dimensions."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = transformers.Qwen2Config(
        **BASE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2, rope_parameters=rope
    )
    return transformers.Qwen2ForCausalLM(config)


@recipe("qwen3")
def _qwen3() -> PreTrainedModel:
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**BASE, head_dim=24, tie_word_embeddings=True)
    )


@recipe("gemma2")
def _gemma2() -> PreTrainedModel:
    config = transformers.Gemma2Config(
        **BASE,
        head_dim=24,
        query_pre_attn_scalar=20,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    )
    return transformers.Gemma2ForCausalLM(config)


@recipe("gemma3")
def _gemma3() -> PreTrainedModel:
    """Two ropes, that of full attention scaled linearly."""
    ropes = {
        "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
    }
    return transformers.Gemma3ForCausalLM(gemma3_text(rope_parameters=ropes))


def gemma3_text(**more: Any) -> transformers.Gemma3TextConfig:
    return transformers.Gemma3TextConfig(
        **BASE,
        head_dim=24,
        query_pre_attn_scalar=20,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        **more,
    )


@recipe("phi")
def _phi() -> PreTrainedModel:
    config = transformers.PhiConfig(**BASE, partial_rotary_factor=0.4, qk_layernorm=True)
    return transformers.PhiForCausalLM(config)


def _phi3_config(**more: Any) -> transformers.Phi3Config:
    factors = {
        "short_factor": [1.0 + 0.1 * i for i in range(6)],
        "long_factor": [2.0 + 0.7 * i for i in range(6)],
    }
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, **factors}
    return transformers.Phi3Config(
        **{**BASE, **more}, rope_parameters=rope, original_max_position_embeddings=64
    )


@recipe("phi3")
def _phi3() -> PreTrainedModel:
    """LongRoPE and a window; the tests' sequences stay within the original context."""
    return transformers.Phi3ForCausalLM(_phi3_config(sliding_window=WINDOW))


@recipe("falcon")
def _falcon() -> PreTrainedModel:
    """The new decoder architecture: grouped queries, two norms."""
    return transformers.FalconForCausalLM(
        _falcon_config(new_decoder_architecture=True, num_kv_heads=2, bias=True)
    )


@recipe("falcon-multi-query")
def _falcon_multi_query() -> PreTrainedModel:
    """Falcon 7B: one KV head, one norm for both sides."""
    return transformers.FalconForCausalLM(_falcon_config(multi_query=True))


@recipe("falcon-sequential")
def _falcon_sequential() -> PreTrainedModel:
    """Neither parallel nor multi-query; the head untied."""
    return transformers.FalconForCausalLM(
        _falcon_config(multi_query=False, parallel_attn=False, bias=True, tie_word_embeddings=False)
    )


def _falcon_config(**more: Any) -> transformers.FalconConfig:
    return transformers.FalconConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_hidden_size=96,
        max_position_embeddings=256,
        **IDS,
        **more,
    )


@recipe("qwen3_moe")
def _qwen3_moe() -> PreTrainedModel:
    """Experts in the first and the last layer, their weights normalized; windows in every layer."""
    config = transformers.Qwen3MoeConfig(
        **BASE,
        head_dim=24,
        num_experts=6,
        num_experts_per_tok=3,
        moe_intermediate_size=40,
        norm_topk_prob=True,
        mlp_only_layers=[1],
        use_sliding_window=True,
        sliding_window=WINDOW,
    )
    return transformers.Qwen3MoeForCausalLM(config)


@recipe("qwen3_moe-sparse")
def _qwen3_moe_sparse() -> PreTrainedModel:
    """Experts in every other layer, their weights as the softmax gives them."""
    config = transformers.Qwen3MoeConfig(
        **BASE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=40, decoder_sparse_step=2
    )
    return transformers.Qwen3MoeForCausalLM(config)


@recipe("gpt_oss")
def _gpt_oss() -> PreTrainedModel:
    """Sinks, windows in every other layer, YaRN with an unrounded ramp."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "truncate": False,
    }
    config = transformers.GptOssConfig(
        **BASE,
        head_dim=24,
        num_local_experts=6,
        num_experts_per_tok=3,
        sliding_window=WINDOW,
        rope_parameters=rope,
    )
    return transformers.GptOssForCausalLM(config)


@recipe("deepseek_v2")
def _deepseek_v2() -> PreTrainedModel:
    """As DeepSeek-V2: compressed queries, group-limited routing, YaRN; one dense layer below."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "mscale": 0.9,
        "mscale_all_dim": 0.7,
    }
    return _deepseek(
        q_lora_rank=20,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        routed_scaling_factor=2.5,
        rope_parameters=rope,
    )


@recipe("deepseek_v2-lite")
def _deepseek_v2_lite() -> PreTrainedModel:
    """As V2-Lite: queries uncompressed, greedy routing."""
    return _deepseek(q_lora_rank=None)


def _deepseek(**more: Any) -> PreTrainedModel:
    config = transformers.DeepseekV2Config(
        **{**BASE, "num_key_value_heads": 4},
        first_k_dense_replace=1,
        kv_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=12,
        n_routed_experts=6,
        num_experts_per_tok=3,
        n_shared_experts=2,
        moe_intermediate_size=20,
        **more,
    )
    return transformers.DeepseekV2ForCausalLM(config)


@recipe("stablelm")
def _stablelm() -> PreTrainedModel:
    """Without a family of its own, as the ones below: a parallel residual, heads normed apart, partial rope."""
    config = transformers.StableLmConfig(**BASE, qk_layernorm=True, use_parallel_residual=True)
    return transformers.StableLmForCausalLM(config)


@recipe("olmo2")
def _olmo2() -> PreTrainedModel:
    return transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**BASE))


@recipe("granite")
def _granite() -> PreTrainedModel:
    """With all its multipliers, that of the logits among them."""
    config = transformers.GraniteConfig(
        **BASE,
        embedding_multiplier=2.0,
        attention_multiplier=0.3,
        residual_multiplier=0.7,
        logits_scaling=3.0,
        tie_word_embeddings=True,
    )
    return transformers.GraniteForCausalLM(config)


@recipe("cohere2")
def _cohere2() -> PreTrainedModel:
    """Windows and full attention, positions in the windows alone."""
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    config = transformers.Cohere2Config(**BASE, sliding_window=WINDOW, layer_types=types)
    return transformers.Cohere2ForCausalLM(config)


@recipe("mixtral")
def _mixtral() -> PreTrainedModel:
    """Experts that transformers fuses while loading; windows in every layer."""
    config = transformers.MixtralConfig(**BASE, sliding_window=WINDOW, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)
