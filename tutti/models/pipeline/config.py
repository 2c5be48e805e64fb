"""What a pipeline that nobody here knows says to the registry, to the memory plan and to the doors. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tutti.errors import ConfigError
from tutti.graph import StageShape
from tutti.models.drawing import describe as drawing
from tutti.models.pipeline.asking import PipelineDrawer
from tutti.models.pipeline.signature import installed, makes_pictures_of_text, signature
from tutti.models.processor.drawer import Drawer

PATCH = 16  # pixels of a side that are counted as one token
_NETWORKS, _VAES = ("transformer", "unet"), ("vae", "vqvae", "movq")
_USUAL_WIDTH, _USUAL_CHANNELS, _USUAL_SIDE = 2048, 128, 1024
_WIDTHS = ("hidden_size", "inner_dim", "dim", "caption_projection_dim")


def claims(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is a pipeline that draws what a text says.

    Without diffusers nothing can be said; whoever loads the model is told that it is missing.
    """
    if not config.get("components"):
        return False
    return not installed() or makes_pictures_of_text(config["architectures"][0])


def describe(config: dict[str, Any]) -> StageShape:
    """An estimate, for each patch of 16 x 16 pixels: the VAE at the full size, and two rows in the network.

    A request keeps a prompt and its negative one, as wide as the network.
    """
    vae, wide = _component(config, _VAES), _width(_component(config, _NETWORKS))
    channels = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [_USUAL_CHANNELS]
    return drawing.network_shape(PATCH**2 * int(min(channels)) + 2 * wide, 8 * wide, kept=2 * 512 * wide)


def drawer(name: str, config: dict[str, Any]) -> Drawer:
    """What may be asked: what the pipeline's call takes. Raises ConfigError where diffusers is not installed."""
    found = signature(config["architectures"][0])
    if found is None:
        raise ConfigError("drawing needs diffusers, which is not installed: pip install 'tutti-engine[draw]'")
    network, pixels = _component(config, _NETWORKS), _pixels(config)
    patch = 1 if "unet" in config["components"] else _largest(network.get("patch_size"), 1)
    side = _largest(network.get("sample_size"), 0) * pixels or _USUAL_SIDE  # what it was trained with
    return PipelineDrawer(
        multiple=pixels * patch,
        longest=4096,
        steps=int(found.default("num_inference_steps") or 50),
        guidance=_number(found.default("guidance_scale")),
        true_guidance=_number(found.default("true_cfg_scale")),
        caches=(),
        width=int(found.default("width") or side),
        height=int(found.default("height") or side),
        takes=frozenset(found.parameters),
    )


def _component(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The configuration of the first of these components that is there; {}: none is."""
    found = (config["components"][name] for name in names if name in config["components"])
    return next((dict(one["config"]) for one in found), {})


def _width(network: Mapping[str, Any]) -> int:
    """How wide a network's hidden states are."""
    if network.get("block_out_channels"):
        return int(max(network["block_out_channels"]))
    heads, size = network.get("num_attention_heads"), network.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(size, int):
        return heads * size
    return next((int(network[key]) for key in _WIDTHS if isinstance(network.get(key), int)), _USUAL_WIDTH)


def _pixels(config: Mapping[str, Any]) -> int:
    """How many pixels wide a latent is; 1: there is no VAE, and the network draws pixels."""
    vae = _component(config, _VAES)
    if vae.get("scale_factor_spatial"):
        return int(vae["scale_factor_spatial"])
    blocks = vae.get("encoder_block_out_channels") or vae.get("block_out_channels")
    return int(2 ** (len(blocks) - 1)) if blocks else 8 if vae else 1


def _largest(value: Any, otherwise: int) -> int:
    """A size that is one number, or one for each side."""
    found = max(value, default=0) if isinstance(value, list) else value
    return int(found or otherwise)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
