"""FLUX.1's VAE, a plain one."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.describe import VAE_ROWS
from tutti.models.drawing.parts import load_module
from tutti.models.drawing.vae import VaeDecoder


def build(checkpoint: Checkpoint, options: BuildOptions) -> VaeDecoder:
    """The stage's model."""
    return VaeDecoder(load_module(checkpoint, "vae", options), VAE_ROWS)
