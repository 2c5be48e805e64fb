"""A tiny random Stable Audio in diffusers' format."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers.pipelines.stable_audio import StableAudioProjectionModel

from tests.models.pipelines import qwen_tokenizer, shaken

_KEPT: list[tempfile.TemporaryDirectory[str]] = []
RATE = 3200  # Hz
LENGTH = 96  # latents
HOP = 32  # samples of a latent
SECONDS = LENGTH * HOP / RATE


def stable_audio() -> diffusers.StableAudioPipeline:
    """Sounds of 0.96 seconds in two channels."""
    letters = qwen_tokenizer()
    letters.model_max_length = 24
    encoder = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=len(letters), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    )
    transformer = diffusers.StableAudioDiTModel(
        sample_size=LENGTH,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=1,
        cross_attention_dim=12,
        cross_attention_input_dim=12,
        time_proj_dim=8,
        global_states_input_dim=24,
    )
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        sampling_rate=RATE,
    )
    vae = shaken(vae, 31)
    vae.decoder.conv2.weight_g.data *= 0.01  # so that it is not too loud for a file
    return diffusers.StableAudioPipeline(
        vae=vae,
        text_encoder=shaken(encoder, 32),
        projection_model=shaken(StableAudioProjectionModel(16, 12, 0, 512), 33),
        tokenizer=letters,
        transformer=shaken(transformer, 34),
        scheduler=diffusers.CosineDPMSolverMultistepScheduler(),
    )


@functools.cache
def sound_pipeline() -> tuple[Any, Path]:
    """The pipeline, and the folder that it was saved to."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-stable-audio-")
    _KEPT.append(folder)
    made = stable_audio()
    made.save_pretrained(folder.name)
    made.set_progress_bar_config(disable=True)
    return made, Path(folder.name)
