"""What LTX-Video's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import component, value
from tutti.models.processor.filmer import Filmer
from tutti.models.processor.filming import Filming

_WIDTH, _HEIGHT, _FRAMES = 704, 512, 161  # that the models are used to
_STATES = 3  # float32 latents that a request keeps: its own, the last velocity, and a picture's


def is_conditional(config: dict[str, Any]) -> bool:
    """Whether the model is of the later kind, whose pipeline has levels and places of its own (0.9.5 and up)."""
    return bool(config["architectures"][0] == "LTXConditionPipeline")


def tokens(config: dict[str, Any]) -> int:
    """The longest prompt."""
    return 256 if is_conditional(config) else 128


def pixels(config: dict[str, Any]) -> int:
    """How many pixels wide and high a latent is."""
    return _ratio(config, "spatial_compression_ratio", "patch_size", 4)


def every(config: dict[str, Any]) -> int:
    """How many frames a latent frame stands for; the first one stands for one."""
    return _ratio(config, "temporal_compression_ratio", "patch_size_t", 1)


def _ratio(config: dict[str, Any], name: str, patch: str, usual: int) -> int:
    vae = component(config, "vae")
    halved = sum(vae.get("spatio_temporal_scaling") or (True, True, True, False))
    return int(vae.get(name) or vae.get(patch, usual) * 2**halved)


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", tokens(config))


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of the transformer. A request keeps a film of the usual size."""
    heads, size, text, channels = (
        int(value(config, "transformer", name))
        for name in ("num_attention_heads", "attention_head_dim", "caption_channels", "in_channels")
    )
    kept = 2 * tokens(config) * text + 2 * _STATES * channels * _places(config)
    shape = describe.network_shape(heads * size, 4 * heads * size, kept=kept)
    return replace(shape, usual=2 * (_places(config) + tokens(config)))


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE, which decodes all frames at once: a film of the usual size in one piece, larger ones in tiles."""
    vae = component(config, "vae")
    widths = vae.get("decoder_block_out_channels") or vae.get("block_out_channels") or (128,)
    patches = every(config) * pixels(config) ** 2 // (vae.get("patch_size") or 4) ** 2
    return StageShape((), 0, patches * int(widths[0]), 0, 0, rows=_places(config))


def _places(config: dict[str, Any]) -> int:
    """The latents of a film of the usual size."""
    frames = (_FRAMES - 1) // every(config) + 1
    return frames * (_WIDTH // pixels(config)) * (_HEIGHT // pixels(config))


def drawer(name: str, config: dict[str, Any]) -> Filmer:
    """What may be asked; habits are those of diffusers' pipelines."""
    return Filmer(
        multiple=pixels(config),
        longest=4096,
        steps=50,
        guidance=3.0,
        guides=True,
        neutral=1.0,
        avoid="",
        width=_WIDTH,
        height=_HEIGHT,
        film=Filming(frames=_FRAMES, fps=25, every=every(config)),
        most=2 if is_conditional(config) else 1,
    )
