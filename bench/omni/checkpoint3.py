"""A checkpoint of Qwen3-Omni's shape, shrunk to two cores, with random weights: for measuring only.

The proportions between the stages are roughly those of the published 30B-A3B model. The code that ends speech has a
head of zeros, so that it is never the likeliest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.omni.checkpoint import VOICE
from bench.peers.checkpoints import write_tokenizer

SHAPE = (
    "thinker 12 x 768 (32 experts of 256, 4 at a time), talker 8 x 384 (32 of 128, 4 at a time, and a shared one), "
    "15 further codes by 5 x 384, code2wav 8 x 384 and 512 channels; vocabulary 32,768 and 2,048 codes"
)
CODES, GROUPS = 2048, 16  # per codebook, and codebooks


def make(folder: Path, *, tiny: bool = False) -> Path:
    """Writes the checkpoint to `folder`, unless it is there; `tiny` for checking that everything runs."""
    if (folder / "tokenizer.json").exists():
        return folder
    import transformers

    torch.manual_seed(0)
    model = transformers.Qwen3OmniMoeForConditionalGeneration(config(tiny)).bfloat16()
    with torch.no_grad():
        model.talker.codec_head.weight[CODES:] = 0
    model.generation_config = transformers.GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    write_tokenizer(folder, model.config.thinker_config.text_config.vocab_size)
    return folder


def config(tiny: bool) -> Any:
    """The configuration; `tiny` has a quarter of the widths and two layers of each."""
    import transformers

    scale = 4 if tiny else 1
    layers = {"thinker": 2, "talker": 2, "predictor": 2, "wave": 2} if tiny else {}
    ids = {
        "audio_token_id": 3,
        "image_token_id": 4,
        "video_token_id": 5,
        "audio_start_token_id": 6,
        "audio_end_token_id": 7,
        "vision_start_token_id": 8,
        "vision_end_token_id": 9,
        "position_id_per_seconds": 13,
    }
    thinker = {
        "text_config": decoder(768 // scale, layers.get("thinker", 12), 64, 32, 256 // scale)
        | {"vocab_size": 32_768, "norm_topk_prob": True},
        "audio_config": {
            "d_model": 320,
            "encoder_layers": 8 // scale,
            "encoder_attention_heads": 5,
            "encoder_ffn_dim": 1280 // scale,
            "output_dim": 768 // scale,
            "downsample_hidden_size": 120,
        },
        "vision_config": {
            "depth": 8,
            "hidden_size": 320,
            "intermediate_size": 860,
            "num_heads": 5,
            "out_hidden_size": 768 // scale,
            "deepstack_visual_indexes": [2, 4, 6],
        },
        "user_token_id": 11,
        **ids,
    }
    talker = {
        "text_config": decoder(384 // scale, layers.get("talker", 8), 32, 32, 128 // scale)
        | {"vocab_size": CODES + 1024, "shared_expert_intermediate_size": 256 // scale},
        "code_predictor_config": decoder(384 // scale, layers.get("predictor", 5), 64)
        | {"vocab_size": CODES, "num_code_groups": GROUPS},
        "num_code_groups": GROUPS,
        "thinker_hidden_size": 768 // scale,
        "spatial_merge_size": 2,
        "accept_hidden_layer": min(5, layers.get("thinker", 12)),
        "codec_pad_id": CODES,
        "codec_bos_id": CODES + 1,
        "codec_eos_token_id": CODES + 2,
        "codec_nothink_id": CODES + 3,
        "codec_think_bos_id": CODES + 4,
        "codec_think_eos_id": CODES + 5,
        "speaker_id": {VOICE: CODES + 6},
        **ids,
    }
    wave = {
        "codebook_size": CODES,
        "num_quantizers": GROUPS,
        "hidden_size": 384 // scale,
        "intermediate_size": 1152 // scale,
        "num_hidden_layers": layers.get("wave", 8),
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "decoder_dim": 512 // scale,
    }
    roles = {"im_start_token_id": 10, "im_end_token_id": 1, "user_token_id": 11, "assistant_token_id": 12}
    signs = {"tts_pad_token_id": 13, "tts_bos_token_id": 14, "tts_eos_token_id": 15, "system_token_id": 16}
    return transformers.Qwen3OmniMoeConfig(
        thinker_config=thinker, talker_config=talker, code2wav_config=wave, **roles, **signs
    )


def decoder(width: int, layers: int, head: int, experts: int = 0, inner: int = 0) -> dict[str, Any]:
    """A decoder of heads of `head` columns, dense or with `experts` of `inner` columns."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1_000_000.0}
    chosen: dict[str, Any] = {}
    if experts:
        rope |= {"mrope_section": [head // 8 * 2, head // 8, head // 8], "mrope_interleaved": True}
        chosen = {"num_experts": experts, "num_experts_per_tok": 4, "moe_intermediate_size": inner}
    return {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": head,
        "max_position_embeddings": 32_768,
        "rope_parameters": rope,
        "pad_token_id": 0,
        **chosen,
    }
