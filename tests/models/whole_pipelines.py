"""Tiny random pipelines that no family of ours serves: Stable Diffusion 1.5, and AuraFlow, which has a transformer."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import transformers

from tests.models.film_pipelines import umt5
from tests.models.pipelines import clip, clip_tokenizer, plain_vae, shaken

_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def stable_diffusion(*, heun: bool = False) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 1.5 with two levels; `heun`: with a scheduler that looks twice in a step."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    kind = diffusers.HeunDiscreteScheduler if heun else diffusers.PNDMScheduler
    more = {} if heun else {"skip_prk_steps": True, "steps_offset": 1}
    return diffusers.StableDiffusionPipeline(
        vae=plain_vae(shift=None),
        text_encoder=shaken(transformers.CLIPTextModel(clip(16)), 41),
        tokenizer=clip_tokenizer(),
        unet=shaken(unet, 42),
        scheduler=kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **more),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def aura_flow() -> diffusers.DiffusionPipeline:
    """AuraFlow with a layer of each kind."""
    encoder, tokenizer = umt5()
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=256,
    )
    return diffusers.AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=plain_vae(shift=None),
        transformer=shaken(transformer, 43),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


WHOLE: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "stable_diffusion": stable_diffusion,
    "heun": functools.partial(stable_diffusion, heun=True),
    "aura_flow": aura_flow,
}


@functools.cache
def whole_pipeline(name: str) -> tuple[Any, Path]:
    """The pipeline, and the folder that it was saved to."""
    folder = tempfile.TemporaryDirectory(prefix=f"tutti-{name}-")
    _KEPT.append(folder)
    made = WHOLE[name]()
    made.save_pretrained(folder.name)
    made.set_progress_bar_config(disable=True)
    return made, Path(folder.name)
