"""What Wan's configuration says to the memory plan and to the doors. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.models.drawing import describe
from tutti.models.drawing.parts import component, value
from tutti.models.processor.filmer import Filmer
from tutti.models.processor.filming import Filming

TOKENS = 512  # that a prompt is padded to
PATCH = 2
_WHOLE = 640  # pixels a side of the largest film that is decoded without tiles; as many as 832 x 480 has
# Numbers that a decoder keeps for each pixel, in its narrowest layer's channels: two frames before each convolution,
# and the four that come of one latent frame.
_KEPT = 6
_STATES = (
    6  # float32 latents that a request keeps: its own, the last velocity, and what the sampler remembers
)


def boundary(config: dict[str, Any]) -> float | None:
    """The part of all noise below which the second transformer takes over; None where there is only one."""
    found = config.get("settings", {}).get("boundary_ratio")
    return None if found is None else float(found)


def is_small(config: dict[str, Any]) -> bool:
    """Whether it is the model of 5 billion parameters, whose latents are small, and its films larger and longer."""
    return bool(config.get("settings", {}).get("expand_timesteps"))


def shown(config: dict[str, Any]) -> bool:
    """Whether the model films from pictures that it is shown beside its latents."""
    return str(config["architectures"][0]) == "WanImageToVideoPipeline" and not is_small(config)


def seen(config: dict[str, Any]) -> int | None:
    """Pixels a side of the pictures that CLIP sees; None where there is no CLIP."""
    if not shown(config) or "image_encoder" not in config["components"]:
        return None
    return int(value(config, "image_encoder", "image_size", 224))


def channels(config: dict[str, Any]) -> int:
    """How many the latents have."""
    return int(value(config, "vae", "z_dim", 16))


def pictures(config: dict[str, Any]) -> tuple[int, int]:
    """How many a film is made from at least, and at most: the first one, and the last.

    With CLIP, a network was trained with one or with both; those with both tell their places apart.
    """
    if not shown(config):
        return 0, int(is_small(config))
    if seen(config) is None:
        return 1, 2
    both = component(config, "transformer").get("pos_embed_seq_len") is not None
    return (2, 2) if both else (1, 1)


def every(config: dict[str, Any]) -> int:
    """How many frames a latent frame stands for; the first one stands for one."""
    return int(value(config, "vae", "scale_factor_temporal", 4))


def describe_text(config: dict[str, Any]) -> StageShape:
    """Of the text encoder."""
    return describe.encoder_shape(config, "text_encoder", TOKENS)


def describe_denoiser(config: dict[str, Any]) -> StageShape:
    """Of a transformer; the wide moments of its blocks are in float32. A request keeps a film of the usual size."""
    heads, size, wide, text, taken = (
        int(value(config, "transformer", name))
        for name in ("num_attention_heads", "attention_head_dim", "ffn_dim", "text_dim", "in_channels")
    )
    usual = drawer("", config)
    assert usual.film is not None
    pixels, frames = usual.width * usual.height, usual.film.frames
    places = (1 + frames // every(config)) * pixels // describe.vae_pixels(config) ** 2
    numbers = _STATES * channels(config) + taken - channels(config)  # and what pictures became, once
    kept = 2 * TOKENS * text + 2 * numbers * places
    wide += (
        6 * heads * size if is_small(config) else 0
    )  # each token of a film with a picture has its own time
    shape = describe.network_shape(2 * heads * size, wide, kept=kept)
    return replace(shape, usual=2 * (places // PATCH**2 + TOKENS))


def describe_vae(config: dict[str, Any]) -> StageShape:
    """Of the VAE, which decodes one latent frame after another.

    The frames that come out take less than a step of the denoiser did, which is over by then.
    """
    settings = component(config, "vae")
    pixels = describe.vae_pixels(config)
    side = pixels // (settings.get("patch_size") or 1)
    channels = int(settings.get("decoder_base_dim") or settings.get("base_dim") or 96)
    shape = describe.vae_shape(config, widths="base_dim")
    return replace(shape, hidden=side**2 * channels * _KEPT, rows=(_WHOLE // pixels) ** 2)


def drawer(name: str, config: dict[str, Any]) -> Filmer:
    """What may be asked; habits are those that the models were published with."""
    small, two = is_small(config), boundary(config) is not None
    least, most = pictures(config)
    high, low = (3.5, 3.5) if shown(config) else (4.0, 3.0)  # of two networks
    multiple = PATCH * describe.vae_pixels(config)
    places = int(value(config, "transformer", "rope_max_seq_len", 1024))
    return Filmer(
        multiple=multiple,
        longest=min(4096, places * multiple),
        steps=40 if two else 50,
        guidance=high if two else 5.0,
        guides=True,
        neutral=1.0,
        avoid="",
        width=1280 if small else 832,
        height=704 if small else 480,
        film=Filming(
            frames=121 if small else 81,
            fps=24 if small else 16,
            every=every(config),
            places=places,
            guidance_2=low if two else None,
        ),
        least=least,
        most=most,
        glance=seen(config),
    )
