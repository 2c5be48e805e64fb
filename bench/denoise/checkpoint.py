"""Checkpoints of Qwen-Image's and Z-Image's shapes, shrunk to two cores, with random weights: for measuring only.

Heads of 128, the proportions of a block and a VAE with latents of eight pixels are the published models'; there are
fewer heads and blocks, and narrower text encoders and VAEs. Random weights say how long a step takes, and nothing of
pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.models.pipelines import qwen_tokenizer

SHAPES = {
    "qwen": "Qwen-Image: 8 blocks of two streams x 768 (6 heads of 128), text 3 x 512; guided, two rows a picture",
    "z": "Z-Image: 2 + 2 + 8 blocks of one stream x 768 (6 heads of 128), text 3 x 512; not guided",
}


def make(folder: Path, name: str, *, tiny: bool = False) -> Path:
    """Writes the pipeline `name` to `folder`, unless it is there; `tiny` for checking that everything runs."""
    if not (folder / "model_index.json").exists():
        torch.manual_seed(0)
        made = {"qwen": _qwen, "z": _z}[name](2 if tiny else 6, 2 if tiny else 8, 64 if tiny else 512)
        made.to(torch.bfloat16).save_pretrained(folder)
    return folder


def _qwen(heads: int, blocks: int, text: int) -> Any:
    import diffusers
    import transformers

    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1_000_000.0}
    language = {
        "vocab_size": len(tokenizer),
        "hidden_size": text,
        "intermediate_size": 4 * text,
        "num_hidden_layers": 3,
        "num_attention_heads": text // 64,
        "num_key_value_heads": 1,
        "rope_parameters": rope,
    }
    sight: dict[str, Any] = {
        "depth": 1,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": text,
    }
    sight["fullatt_block_indexes"] = [0]
    config = transformers.Qwen2_5_VLConfig(text_config=language, vision_config=sight)
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.02, max_shift=0.9, max_image_seq_len=8192
        ),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=32,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 16,
            latents_std=[1.0] * 16,
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=64,
            out_channels=16,
            num_layers=blocks,
            attention_head_dim=128,
            num_attention_heads=heads,
            joint_attention_dim=text,
            axes_dims_rope=(16, 56, 56),
        ),
    )


def _z(heads: int, blocks: int, text: int) -> Any:
    import diffusers
    import transformers

    tokenizer = qwen_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=text,
        intermediate_size=4 * text,
        num_hidden_layers=3,
        num_attention_heads=text // 64,
        num_key_value_heads=1,
        head_dim=64,
    )
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(32, 64, 128, 128),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=8,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=transformers.Qwen3Model(config),
        tokenizer=tokenizer,
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=16,
            dim=128 * heads,
            n_layers=blocks,
            n_refiner_layers=2,
            n_heads=heads,
            n_kv_heads=heads,
            cap_feat_dim=text,
            axes_dims=[32, 48, 48],
            axes_lens=[1024, 512, 512],
        ),
    )
