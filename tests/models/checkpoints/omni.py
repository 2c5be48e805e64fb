"""Tiny models that speak."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from tests.models.checkpoints.base import (
    AUDIO,
    BASE,
    BOS,
    END,
    EOS,
    IDS,
    IMAGE,
    PAD,
    PICTURES,
    START,
    VIDEO,
    recipe,
)
from tests.models.checkpoints.sight import WINDOWED_VISION


def _add_voice(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    voice = {
        "bos_token": 11,
        "cond": torch.randn(1, 16, generator=generator),
        "ref_mel": torch.randn(1, 30, 80, generator=generator),
    }
    torch.save({"Ada": voice}, folder / "spk_dict.pt")


@recipe(
    "qwen2_5_omni",
    kind="omni",
    auto=transformers.Qwen2_5OmniForConditionalGeneration,
    preprocessor=PICTURES,
    finish=_add_voice,
)
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
        "vision_config": WINDOWED_VISION,
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
