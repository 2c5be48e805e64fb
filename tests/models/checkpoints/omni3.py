"""A tiny Qwen3-Omni."""

from __future__ import annotations

import transformers
from transformers import PreTrainedModel

from tests.models.checkpoints.base import (
    AUDIO,
    BASE,
    BOS,
    EOS,
    IMAGE,
    PICTURES,
    START,
    VIDEO,
    recipe,
)
from tests.models.checkpoints.sight import DEEP_VISION

CODEBOOK, GROUPS = 64, 5
SILENT, BEGIN, FINISH = CODEBOOK, CODEBOOK + 1, CODEBOOK + 2  # codes that pad, begin and end speech
SPEAKERS = {"ada": CODEBOOK + 6, "bea": CODEBOOK + 7}
SOUND = 256 + 4  # begins sound: another mark than the one that begins a picture
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 40}


@recipe(
    "qwen3_omni",
    kind="omni",
    auto=transformers.Qwen3OmniMoeForConditionalGeneration,
    preprocessor={"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, **PICTURES},
)
def _qwen3_omni() -> PreTrainedModel:
    """All stages. A role is known by the byte that its name begins with."""
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [5, 4, 3],
        "mrope_interleaved": True,
    }
    ids = {
        "audio_token_id": AUDIO,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "audio_start_token_id": SOUND,
        "audio_end_token_id": EOS,
        "vision_start_token_id": BOS,
        "vision_end_token_id": EOS,
        "position_id_per_seconds": 13,
    }
    thinker = {
        "text_config": {
            **BASE,
            "head_dim": 24,
            "rope_parameters": rope,
            "mlp_only_layers": [1],
            "max_position_embeddings": 512,
            **_EXPERTS,
        },
        "audio_config": {
            "num_mel_bins": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "d_model": 32,
            "output_dim": 64,
            "n_window": 50,
            "n_window_infer": 200,
            "downsample_hidden_size": 8,
        },
        "vision_config": DEEP_VISION,
        "user_token_id": ord("u"),
        **ids,
    }
    talker = {
        "text_config": {
            "vocab_size": CODEBOOK + 1024,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "max_position_embeddings": 512,
            "rope_parameters": rope,
            "shared_expert_intermediate_size": 24,
            **_EXPERTS,
        },
        "code_predictor_config": {
            "vocab_size": CODEBOOK,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "num_code_groups": GROUPS,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "num_code_groups": GROUPS,
        "thinker_hidden_size": 64,
        "accept_hidden_layer": 2,  # a layer that a feature is added after
        "spatial_merge_size": 2,
        "codec_pad_id": SILENT,
        "codec_bos_id": BEGIN,
        "codec_eos_token_id": FINISH,
        "codec_nothink_id": CODEBOOK + 3,
        "codec_think_bos_id": CODEBOOK + 4,
        "codec_think_eos_id": CODEBOOK + 5,
        "speaker_id": SPEAKERS,
        **ids,
    }
    code2wav = {
        "codebook_size": CODEBOOK,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_quantizers": GROUPS,
        "decoder_dim": 32,
        "sliding_window": 6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    config = transformers.Qwen3OmniMoeConfig(
        thinker_config=thinker,
        talker_config=talker,
        code2wav_config=code2wav,
        im_start_token_id=START,
        im_end_token_id=EOS,
        tts_pad_token_id=250,
        tts_bos_token_id=251,
        tts_eos_token_id=252,
        system_token_id=ord("s"),
        user_token_id=ord("u"),
        assistant_token_id=ord("a"),
    )
    return transformers.Qwen3OmniMoeForConditionalGeneration(config)
