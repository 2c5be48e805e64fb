"""Tiny checkpoints of every family, made by transformers, for the whole project's tests.

`make(name, folder)` writes one; `cached(name)` writes it once per test session. Every parameter is drawn anew
(matrices N(0, .15), norms N(1, .15), biases N(0, .15)): with transformers' own initialization norms are 1, biases 0 and
the best token's margin next to nothing, which hides bugs. Vocabularies match `tokenizer_json`'s byte-level tokenizer,
so a checkpoint can be served with text.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

VOCAB = 264  # 256 bytes and the special tokens below
PAD, BOS, EOS, START, END = 256, 257, 258, 259, 260
IMAGE, VIDEO, AUDIO = 261, 262, 263  # placeholders of media
SPECIALS = {
    "<pad>": PAD,
    "<s>": BOS,
    "</s>": EOS,
    "<|im_start|>": START,
    "<|im_end|>": END,
    "<|image|>": IMAGE,
    "<|video|>": VIDEO,
    "<|audio|>": AUDIO,
}
IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
BASE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **IDS,
}
WINDOW = 9  # shorter than the tests' sequences
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<|{{ part.type }}|>{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PICTURES = {"min_pixels": 16 * 16, "max_pixels": 48 * 48}  # how towers of patches of 4 pixels take them

Maker = Callable[[], PreTrainedModel]
FAMILIES: dict[str, Maker] = {}


SIGHTED: dict[str, Maker] = {}
PREPROCESSORS: dict[str, dict[str, Any]] = {}  # how they take pictures: their preprocessor_config.json
_GRIDS = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, **PICTURES}


def sighted(name: str, preprocessor: dict[str, Any] = _GRIDS) -> Callable[[Maker], Maker]:
    """Registers a maker of a model that sees under `name`, and how it takes pictures."""

    def register(maker: Maker) -> Maker:
        SIGHTED[name] = maker
        PREPROCESSORS[name] = preprocessor
        return maker

    return register


def family(name: str) -> Callable[[Maker], Maker]:
    """Registers a maker of a model with random weights under `name`."""

    def register(maker: Maker) -> Maker:
        FAMILIES[name] = maker
        return maker

    return register


@family("llama")
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


@family("llama-plain")
def _llama_plain() -> PreTrainedModel:
    """Llama 2: no biases, plain rope; the head tied."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**BASE, tie_word_embeddings=True))


@family("llama-linear")
def _llama_linear() -> PreTrainedModel:
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**BASE, rope_parameters=rope))


@family("mistral")
def _mistral() -> PreTrainedModel:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**BASE, sliding_window=WINDOW))


@family("qwen2")
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


@family("qwen3")
def _qwen3() -> PreTrainedModel:
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**BASE, head_dim=24, tie_word_embeddings=True)
    )


@family("gemma2")
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


@family("gemma3")
def _gemma3() -> PreTrainedModel:
    """Two ropes, that of full attention scaled linearly."""
    ropes = {
        "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
    }
    return transformers.Gemma3ForCausalLM(_gemma3_text(rope_parameters=ropes))


def _gemma3_text(**more: Any) -> transformers.Gemma3TextConfig:
    return transformers.Gemma3TextConfig(
        **BASE,
        head_dim=24,
        query_pre_attn_scalar=20,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        **more,
    )


@family("phi")
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


@family("phi3")
def _phi3() -> PreTrainedModel:
    """LongRoPE and a window; the tests' sequences stay within the original context."""
    return transformers.Phi3ForCausalLM(_phi3_config(sliding_window=WINDOW))


@family("falcon")
def _falcon() -> PreTrainedModel:
    """The new decoder architecture: grouped queries, two norms."""
    return transformers.FalconForCausalLM(
        _falcon_config(new_decoder_architecture=True, num_kv_heads=2, bias=True)
    )


@family("falcon-multi-query")
def _falcon_multi_query() -> PreTrainedModel:
    """Falcon 7B: one KV head, one norm for both sides."""
    return transformers.FalconForCausalLM(_falcon_config(multi_query=True))


@family("falcon-sequential")
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


@family("qwen3_moe")
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


@family("qwen3_moe-sparse")
def _qwen3_moe_sparse() -> PreTrainedModel:
    """Experts in every other layer, their weights as the softmax gives them."""
    config = transformers.Qwen3MoeConfig(
        **BASE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=40, decoder_sparse_step=2
    )
    return transformers.Qwen3MoeForCausalLM(config)


@family("gpt_oss")
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


@family("deepseek_v2")
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


@family("deepseek_v2-lite")
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


@family("stablelm")
def _stablelm() -> PreTrainedModel:
    """Without a family of its own, as the ones below: a parallel residual, heads normed apart, partial rope."""
    config = transformers.StableLmConfig(**BASE, qk_layernorm=True, use_parallel_residual=True)
    return transformers.StableLmForCausalLM(config)


@family("olmo2")
def _olmo2() -> PreTrainedModel:
    return transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**BASE))


@family("granite")
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


@family("cohere2")
def _cohere2() -> PreTrainedModel:
    """Windows and full attention, positions in the windows alone."""
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    config = transformers.Cohere2Config(**BASE, sliding_window=WINDOW, layer_types=types)
    return transformers.Cohere2ForCausalLM(config)


@family("mixtral")
def _mixtral() -> PreTrainedModel:
    """Experts that transformers fuses while loading; windows in every layer."""
    config = transformers.MixtralConfig(**BASE, sliding_window=WINDOW, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)


def _vision_language(kind: str, vision: dict[str, Any], sections: list[int], **text: Any) -> PreTrainedModel:
    """transformers' `{kind}ForConditionalGeneration` with the base's language model, and `text` of its own."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}
    config = getattr(transformers, f"{kind}Config")(
        text_config={**BASE, "rope_parameters": rope, **text},
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        **IDS,
    )
    model: PreTrainedModel = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    return model


@sighted("qwen2_vl")
def _qwen2_vl() -> PreTrainedModel:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    return _vision_language("Qwen2VL", vision, [2, 3, 3])


_WINDOWED_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}


@sighted("qwen2_5_vl")
def _qwen2_5_vl() -> PreTrainedModel:
    """Windows in the tower's first layer, full attention in its second; frames apart by their time."""
    return _vision_language("Qwen2_5_VL", _WINDOWED_VISION | {"tokens_per_second": 2}, [2, 3, 3])


# A tower of four layers, of which two speak to the decoder; positions learned on a grid of 6 x 6.
_DEEP_VISION = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 4,
    "num_position_embeddings": 36,
    "deepstack_visual_indexes": [1, 2],
}


@sighted("qwen3_vl")
def _qwen3_vl() -> PreTrainedModel:
    return _vision_language("Qwen3VL", _DEEP_VISION, [5, 4, 3], head_dim=24)


@sighted("qwen3_vl_moe")
def _qwen3_vl_moe() -> PreTrainedModel:
    """Experts in the first and the last layer."""
    experts = {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "mlp_only_layers": [1],
    }
    return _vision_language("Qwen3VLMoe", _DEEP_VISION, [5, 4, 3], head_dim=24, **experts)


_TILE = 16  # pixels
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": _TILE,
    "patch_size": 4,
}
_CUT = {"size": {"shortest_edge": _TILE}, "crop_size": {"height": _TILE, "width": _TILE}}


@sighted("llava", {"image_processor_type": "LlavaImageProcessor", **_CUT})
def _llava() -> PreTrainedModel:
    config = transformers.LlavaConfig(
        text_config={**BASE, "model_type": "llama"}, vision_config=_CLIP, image_token_index=IMAGE
    )
    return transformers.LlavaForConditionalGeneration(config)


@sighted(
    "llava-siglip",
    {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": _TILE + 2, "width": _TILE + 2},
        "image_mean": [0.5] * 3,
        "image_std": [0.4] * 3,
    },
)
def _llava_siglip() -> PreTrainedModel:
    """Another tower and another language; two of the tower's layers are heard; the head is tied."""
    config = transformers.LlavaConfig(
        text_config={**BASE, "model_type": "qwen2", "tie_word_embeddings": True},
        vision_config={**_CLIP, "model_type": "siglip_vision_model", "image_size": _TILE + 2},
        image_token_index=IMAGE,
        vision_feature_layer=[-2, 1],
        vision_feature_select_strategy="full",
        multimodal_projector_bias=False,
    )
    return transformers.LlavaForConditionalGeneration(config)


_CANVASES = [[height * _TILE, width * _TILE] for height, width in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]


@sighted(
    "llava_next",
    {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": _CANVASES, **_CUT},
)
def _llava_next() -> PreTrainedModel:
    config = transformers.LlavaNextConfig(
        text_config={**BASE, "model_type": "mistral", "sliding_window": 90},
        vision_config=_CLIP,
        image_token_index=IMAGE,
        image_grid_pinpoints=_CANVASES,
    )
    return transformers.LlavaNextForConditionalGeneration(config)


@sighted(
    "gemma3-vision",
    {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": _TILE, "width": _TILE}},
)
def _gemma3_vision() -> PreTrainedModel:
    """Pictures of four tokens, on both sides of a window's edge; the placeholder is where a picture begins."""
    config = transformers.Gemma3Config(
        text_config=_gemma3_text().to_dict(),
        vision_config={**_CLIP, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        boi_token_index=IMAGE,
        image_token_index=VIDEO,
        eoi_token_index=END,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def omni() -> PreTrainedModel:
    """A whole Qwen2.5-Omni: all stages, tiny."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    placeholders = {"audio_token_index": AUDIO, "image_token_index": IMAGE, "video_token_index": VIDEO}
    marks = {
        "audio_start_token_id": START,
        "audio_end_token_id": END,
        "vision_start_token_id": BOS,  # another than sound's, or transformers takes one for the other
        "vision_end_token_id": EOS,
    }
    thinker = {
        "text_config": {**BASE, "rope_parameters": rope},
        "audio_config": {
            "num_mel_bins": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "d_model": 32,
            "output_dim": 64,
            "n_window": 20,
            "max_source_positions": 100,
        },
        "vision_config": _WINDOWED_VISION,
        "user_token_id": START,
        **placeholders,
        **marks,
        **IDS,
    }
    talker = {
        "vocab_size": 68,
        "embedding_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "rope_parameters": rope,
        "tts_codec_pad_token_id": 64,
        "tts_codec_start_token_id": 65,
        "tts_codec_end_token_id": 66,
        "tts_codec_mask_token_id": 67,
        "tts_text_start_token_id": START,
        "tts_text_end_token_id": END,
        "tts_text_pad_token_id": PAD,
        "pad_token_id": 64,
        **placeholders,
        **marks,
    }
    dit = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
        "emb_dim": 16,
        "num_embeds": 65,
        "mel_dim": 80,
        "look_ahead_layers": [1],
        "look_backward_layers": [0],
        "enc_emb_dim": 16,
        "enc_dim": 16,
        "enc_channels": [16, 16, 16, 16, 48],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
    }
    vocoder = {
        "mel_dim": 80,
        "upsample_initial_channel": 64,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    }
    config = transformers.Qwen2_5OmniConfig(
        thinker_config=thinker,
        talker_config=talker,
        token2wav_config={"dit_config": dit, "bigvgan_config": vocoder},
    )
    return transformers.Qwen2_5OmniForConditionalGeneration(config)


def _add_voice(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    voice = {
        "bos_token": 11,
        "cond": torch.randn(1, 16, generator=generator),
        "ref_mel": torch.randn(1, 30, 80, generator=generator),
    }
    torch.save({"Ada": voice}, folder / "spk_dict.pt")


OMNI: dict[str, Maker] = {"qwen2_5_omni": omni}


def _qwen2_audio() -> PreTrainedModel:
    audio = {
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "d_model": 32,
        "max_source_positions": 200,  # windows of 4 seconds
    }
    config = transformers.Qwen2AudioConfig(
        text_config={**BASE, "model_type": "qwen2"}, audio_config=audio, audio_token_index=AUDIO
    )
    return transformers.Qwen2AudioForConditionalGeneration(config)


def _whisper() -> PreTrainedModel:
    """Windows of 30 seconds; a vocabulary of its own, in which special tokens and times follow the end."""
    config = transformers.WhisperConfig(
        vocab_size=WHISPER_TIMES + 1501,
        num_mel_bins=16,
        encoder_layers=2,
        encoder_attention_heads=4,
        decoder_layers=3,
        decoder_attention_heads=4,
        decoder_ffn_dim=96,
        encoder_ffn_dim=48,
        d_model=64,
        max_target_positions=64,
        decoder_start_token_id=WHISPER["<|startoftranscript|>"],
        begin_suppress_tokens=None,
        **IDS,
    )
    return transformers.WhisperForConditionalGeneration(config)


def _whisper_generation() -> transformers.GenerationConfig:
    config = transformers.GenerationConfig(
        **IDS,
        decoder_start_token_id=WHISPER["<|startoftranscript|>"],
        is_multilingual=True,
        lang_to_id={name: WHISPER[name] for name in ("<|en|>", "<|fr|>")},
        task_to_id={name: WHISPER[f"<|{name}|>"] for name in ("translate", "transcribe")},
        no_timestamps_token_id=WHISPER["<|notimestamps|>"],
        prev_sot_token_id=WHISPER["<|startofprev|>"],
        suppress_tokens=[7, 11, PAD, BOS, *(WHISPER[name] for name in _UNSAID)],
        begin_suppress_tokens=[32, EOS],
        max_initial_timestamp_index=50,
    )
    config._from_model_config = False  # or what is Whisper's own would not be saved
    return config


def _as_published(file: Path) -> None:
    """The names of the published checkpoint; transformers 5.17 saves the language model's with a "model." too many."""
    tensors = {name.replace(".model.model.", ".model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


HEARING: dict[str, Maker] = {"qwen2_audio": _qwen2_audio, "whisper": _whisper}
WHISPER = {
    name: EOS + place
    for place, name in enumerate(
        (
            "</s>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>",
            "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
        )
    )
}  # fmt: skip
_UNSAID = ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>")
WHISPER_TIMES = max(WHISPER.values()) + 1


def randomize(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Draws every parameter anew; norms that add one to their weight (initialized to 0) stay around 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") and parameter.mean() == 1 else 0.0
            parameter.copy_(torch.normal(mean, 0.15, parameter.shape, generator=generator))
    return model


def make(name: str, folder: Path, *, dtype: torch.dtype = torch.float32, **save: Any) -> Path:
    """Writes the family's checkpoint, with a tokenizer, to `folder`; `save` goes to save_pretrained (shard size)."""
    model = randomize((FAMILIES | SIGHTED | OMNI | HEARING)[name]()).to(dtype).eval()
    whisper = name == "whisper"
    model.generation_config = _whisper_generation() if whisper else transformers.GenerationConfig(**IDS)
    model.save_pretrained(folder, **save)
    add_tokenizer(folder, ("<pad>", "<s>", *WHISPER, *_times()) if whisper else tuple(SPECIALS))
    if name in OMNI:
        _add_voice(folder)
    if name == "qwen2_audio":
        _as_published(folder / "model.safetensors")
    if name in SIGHTED | OMNI:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS.get(name, PICTURES)))
    return folder


@functools.cache
def _root() -> Path:
    """The session's folder; it goes with the process's temporary files."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-checkpoints-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def cached(name: str) -> Path:
    """The family's float32 checkpoint, made once per test session."""
    return make(name, _root() / name)


@functools.cache
def reference(name: str) -> PreTrainedModel:
    """transformers' model of `cached(name)`, with eager attention (the one that heeds soft caps and sinks)."""
    auto: Any = transformers.AutoModelForCausalLM
    if name in SIGHTED:
        auto = transformers.AutoModelForImageTextToText
    elif name in OMNI:
        auto = transformers.Qwen2_5OmniForConditionalGeneration
    elif name == "qwen2_audio":
        auto = transformers.Qwen2AudioForConditionalGeneration
    elif name == "whisper":
        auto = transformers.WhisperForConditionalGeneration
    return auto.from_pretrained(cached(name), dtype=torch.float32, attn_implementation="eager").eval()


def _times() -> tuple[str, ...]:
    return tuple(f"<|{place * 0.02:.2f}|>" for place in range(1501))


def tokenizer_json(specials: tuple[str, ...] = tuple(SPECIALS)) -> dict[str, Any]:
    """A byte-level BPE without merges: token i is byte i; the special tokens follow."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    value: dict[str, Any] = json.loads(tokenizer.to_str())
    return value


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2's bytes_to_unicode)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def add_tokenizer(folder: Path, specials: tuple[str, ...] = tuple(SPECIALS)) -> None:
    """Writes tokenizer.json and tokenizer_config.json (with a chat template) into `folder`."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(specials), ensure_ascii=False))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
