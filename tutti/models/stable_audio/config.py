"""What Stable Audio's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import value
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.sounding import SoundMaker

TOKENS = 128  # that a prompt is padded to
WINDOW = 128  # latents that are decoded at a time: six seconds
_BRANCH = 48  # latents' worth of noise that a request keeps: of its Brownian path, what was last asked for


def length(config: dict[str, Any]) -> int:
    """How many latents a sound has: always as many, whatever is kept of it."""
    return int(value(config, "transformer", "sample_size", 1024))


def ratios(config: dict[str, Any]) -> list[int]:
    """How many samples of a level of the decoder stand for one of the level before, from the sound to the latents."""
    return [int(one) for one in value(config, "vae", "downsampling_ratios", [2, 4, 4, 8, 8])]


def rate(config: dict[str, Any]) -> int:
    """Samples a second."""
    return int(value(config, "vae", "sampling_rate", 44100))


def halo(config: dict[str, Any]) -> int:
    """How many latents before and behind one its samples depend on.

    From the sound back: the last convolution reaches 3 samples to each side, the three residual units of a level 3, 9
    and 27 more, a transposed convolution one latent of the level before, and the first convolution 3.
    """
    reach = 3
    for ratio in ratios(config):
        reach = math.ceil((reach + 39) / ratio) + 2
    return reach + 3


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer, whose blocks have gates. Every sound has as many tokens, two rows of them with guidance."""
    heads, size, channels, text = (
        int(value(config, "transformer", name, usual))
        for name, usual in (
            ("num_attention_heads", 24),
            ("attention_head_dim", 64),
            ("in_channels", 64),
            ("cross_attention_input_dim", 768),
        )
    )
    latents = length(config)
    kept = 2 * (TOKENS + 2) * text + 2 * _BRANCH * channels * latents
    shape = describe.network_shape(heads * size, 8 * heads * size, kept=kept)
    return replace(shape, rows=2 * (latents + 1 + TOKENS + 2))


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE, which decodes a window at a time: its widest moment has the sound's full rate."""
    channels = int(value(config, "vae", "decoder_channels", 128))
    rows = min(WINDOW + 2 * halo(config), length(config))
    return StageShape((), 0, math.prod(ratios(config)) * channels, 0, 0, rows=rows)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked; habits are those of the pipeline."""
    return SoundMaker(
        multiple=1,
        longest=0,
        steps=100,
        guidance=7.0,
        guides=True,
        neutral=1.0,
        caches=(),
        seconds=length(config) * math.prod(ratios(config)) / rate(config),
    )
