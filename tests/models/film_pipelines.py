"""Tiny random pipelines in diffusers' format, one for each kind of model that films."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import processors

from tests.models.pipelines import qwen_tokenizer, shaken

_KEPT: list[tempfile.TemporaryDirectory[str]] = []
LATENTS = 4  # channels


def wan_vae(*, small: bool) -> Any:
    """A VAE whose latents are four frames long and four pixels wide; eight pixels, of the small model."""
    return shaken(
        diffusers.AutoencoderKLWan(
            base_dim=8,
            decoder_base_dim=16 if small else None,
            z_dim=LATENTS,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.1, 0.9, 1.2, 1.0],
            is_residual=small,
            in_channels=12 if small else 3,
            out_channels=12 if small else 3,
            patch_size=2 if small else None,
            scale_factor_temporal=4,
            scale_factor_spatial=8 if small else 4,
        ),
        21,
    )


def umt5() -> tuple[Any, Any]:
    """A text encoder over bytes, and its tokenizer."""
    letters = qwen_tokenizer()
    encoder = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=len(letters), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
        )
    )
    return shaken(encoder, 22), letters


def wan_transformer(seed: int, **more: Any) -> Any:
    """A transformer of two layers."""
    return shaken(
        diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            out_channels=LATENTS,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
            **{"in_channels": LATENTS, **more},
        ),
        seed,
    )


def wan(*, two: bool = False, small: bool = False, euler: bool = False) -> diffusers.DiffusionPipeline:
    """Wan 2.1; 2.2 with its `two` transformers; 2.2's `small` model; one with the scheduler of a distilled model."""
    encoder, tokenizer = umt5()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0) if euler else unipc()
    return diffusers.WanPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=wan_vae(small=small),
        scheduler=scheduler,
        transformer=wan_transformer(23),
        transformer_2=wan_transformer(24) if two else None,
        boundary_ratio=0.875 if two else None,
        expand_timesteps=small,
    )


def unipc() -> Any:
    """The scheduler that Wan is published with."""
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def wan_begun(*, two: bool = False, both: bool = False) -> diffusers.DiffusionPipeline:
    """Wan 2.1 that films from a picture, or from `both` the first one and the last; 2.2 with its `two` transformers."""
    encoder, tokenizer = umt5()
    clip = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
        )
    )
    shown: dict[str, Any] = {"in_channels": 4 + 2 * LATENTS}
    if not two:
        shown |= {"image_dim": 16, "added_kv_proj_dim": 24, "pos_embed_seq_len": 10 if both else None}
    return diffusers.WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=wan_vae(small=False),
        scheduler=unipc(),
        image_encoder=None if two else shaken(clip, 25),
        image_processor=None
        if two
        else transformers.CLIPImageProcessor(
            size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}, do_convert_rgb=True
        ),
        transformer=wan_transformer(23, **shown),
        transformer_2=wan_transformer(24, **shown) if two else None,
        boundary_ratio=0.9 if two else None,
    )


def t5() -> tuple[Any, Any]:
    """A text encoder over bytes, and its tokenizer, which marks the end of prompts."""
    letters = qwen_tokenizer()
    letters.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {letters.eos_token}", special_tokens=[(letters.eos_token, letters.eos_token_id)]
    )
    encoder = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=len(letters), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    )
    return shaken(encoder, 31), letters


def ltx_vae(*, timed: bool, by_chance: bool) -> Any:
    """A VAE whose latents are four frames long and sixteen pixels wide; `timed`: it ends the denoising."""
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(by_chance, False, False, False, False),
        timestep_conditioning=timed,
        patch_size=4,
        scaling_factor=0.9,
    )
    generator = torch.Generator().manual_seed(32)
    vae.latents_mean.copy_(0.2 * torch.randn(8, generator=generator))
    vae.latents_std.copy_(1 + 0.2 * torch.rand(8, generator=generator))
    return shaken(vae, 33)


def ltx(*, later: bool = False, timed: bool = False, by_chance: bool = False) -> diffusers.DiffusionPipeline:
    """LTX-Video; a `later` one with levels of its own; with a VAE that is `timed`, or draws `by_chance`."""
    encoder, tokenizer = t5()
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=16,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=not later,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=64,
        max_image_seq_len=4096,
        shift_terminal=None if later else 0.1,
    )
    return (diffusers.LTXConditionPipeline if later else diffusers.LTXPipeline)(
        scheduler=scheduler,
        vae=ltx_vae(timed=timed, by_chance=by_chance),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=shaken(transformer, 34),
    )


FILMS: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "wan": wan,
    "wan_two": functools.partial(wan, two=True),
    "wan_small": functools.partial(wan, small=True),
    "wan_euler": functools.partial(wan, euler=True),
}
BEGUN: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {  # those that need a picture
    "wan_begun": wan_begun,
    "wan_begun_both": functools.partial(wan_begun, both=True),
    "wan_begun_two": functools.partial(wan_begun, two=True),
}
LTX: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "ltx": ltx,
    "ltx_timed": functools.partial(ltx, timed=True),
    "ltx_later": functools.partial(ltx, later=True, timed=True),
    "ltx_by_chance": functools.partial(ltx, timed=True, by_chance=True),
}


@functools.cache
def film_pipeline(family: str) -> tuple[Any, Path]:
    """The pipeline of a family, and the folder that it was saved to."""
    folder = tempfile.TemporaryDirectory(prefix=f"tutti-{family}-")
    _KEPT.append(folder)
    made = (FILMS | BEGUN | LTX)[family]()
    made.save_pretrained(folder.name)
    made.set_progress_bar_config(disable=True)
    return made, Path(folder.name)
