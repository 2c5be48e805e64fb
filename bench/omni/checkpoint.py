"""A checkpoint of Qwen2.5-Omni's shape, shrunk to two cores, with random weights: for measuring only.

The proportions between the stages are roughly those of the published 3B model. Codes that are no sound have a head of
zeros, so that they are never the likeliest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bench.peers.checkpoints import write_tokenizer

SHAPE = "thinker 12 x 768, talker 12 x 384, flow 8 x 384, vocoder 256; vocabulary 32,768 and 8,448 codes"
CODES = 8192  # that are sound; the special ones follow
VOICE = "bench"
PIXELS = {"min_pixels": 3136, "max_pixels": 12_845_056}  # of a picture, or of a video's frames, as published


def make(folder: Path, *, tiny: bool = False) -> Path:
    """Writes the checkpoint to `folder`, unless it is there; `tiny` for checking that everything runs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    if (folder / "spk_dict.pt").exists():
        return folder
    import transformers

    torch.manual_seed(0)
    model = transformers.Qwen2_5OmniForConditionalGeneration(config(tiny)).bfloat16()
    with torch.no_grad():
        model.talker.codec_head.weight[CODES:] = 0
    model.generation_config = transformers.GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    write_tokenizer(folder, model.config.thinker_config.text_config.vocab_size)
    width = model.config.token2wav_config.dit_config.enc_emb_dim
    voice = {"bos_token": 2, "cond": torch.randn(1, width), "ref_mel": torch.randn(1, 300, 80)}
    torch.save({VOICE: voice}, folder / "spk_dict.pt")
    return folder


def config(tiny: bool) -> Any:
    """The configuration; `tiny` has a quarter of the widths and two layers of each."""
    import transformers

    scale, layers = (4, 2) if tiny else (1, 12)
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]}
    thinker = {
        "text_config": {
            "vocab_size": 32_768,
            "hidden_size": 768 // scale,
            "intermediate_size": 3072 // scale,
            "num_hidden_layers": layers,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "max_position_embeddings": 32_768,
            "rope_parameters": rope,
            "pad_token_id": 0,
        },
        "audio_config": {
            "d_model": 320,
            "encoder_layers": 8,
            "encoder_attention_heads": 5,
            "encoder_ffn_dim": 1280,
        }
        | {"output_dim": 768 // scale},
        "vision_config": {"depth": 8, "hidden_size": 320, "intermediate_size": 860, "num_heads": 4}
        | {"out_hidden_size": 768 // scale, "fullatt_block_indexes": [3, 7]},
        "audio_token_index": 3,
        "image_token_index": 4,
        "video_token_index": 5,
        "audio_start_token_id": 6,
        "audio_end_token_id": 7,
        "vision_start_token_id": 8,
        "vision_end_token_id": 9,
        "user_token_id": 10,
        "pad_token_id": 0,
    }
    thinker["text_config"]["num_attention_heads"] = 768 // scale // 128 or 1
    thinker["text_config"]["num_key_value_heads"] = 2 if scale == 1 else 1
    talker = {
        "vocab_size": 8448,
        "embedding_size": 768 // scale,
        "hidden_size": 384,
        "intermediate_size": 2048 // scale,
        "num_hidden_layers": layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rope_parameters": rope | {"mrope_section": [8, 12, 12]},
        "tts_text_start_token_id": 2,
        "tts_text_end_token_id": 1,
        "tts_text_pad_token_id": 0,
        "audio_start_token_id": 6,
        "audio_end_token_id": 7,
        "vision_start_token_id": 8,
        "vision_end_token_id": 9,
        "audio_token_index": 3,
        "image_token_index": 4,
        "video_token_index": 5,
    }
    flow = {
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "head_dim": 64,
        "emb_dim": 192,
        "look_ahead_layers": [4],
        "look_backward_layers": [0, 7],
    }
    vocoder = {"upsample_initial_channel": 256}
    return transformers.Qwen2_5OmniConfig(
        thinker_config=thinker,
        talker_config=talker,
        token2wav_config={"dit_config": flow, "bigvgan_config": vocoder},
    )
