"""Pictures to learn to draw from: scenes of a split, painted as pico is to draw them."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from torch import Tensor

from pico.pictures import DRAWN, draw, drawn_look
from pico.requests import draw_request
from pico.scenes import Scene, scene_of
from pico.values import LANGS, Split


def wanted(rng: Random, split: Split) -> Scene:
    """A scene of the split, as often as it is asked for."""
    return scene_of(draw_request(rng, rng.choice(LANGS), split).key)


def painted(rng: Random, scenes: list[Scene]) -> Tensor:
    """One picture of each scene, uint8 [pictures, 3, DRAWN, DRAWN]."""
    pixels = np.stack([np.asarray(draw(rng, scene, drawn_look(rng))) for scene in scenes])
    assert pixels.shape[1:] == (DRAWN, DRAWN, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def values(pixels: Tensor) -> Tensor:
    """uint8 as the networks take them: float32 from -1 to 1, channels last in memory."""
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
