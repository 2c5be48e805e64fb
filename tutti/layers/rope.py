"""Rotary position embeddings (Su et al. 2021): frequencies once, a step's cosines and sines once per step.

Everything is float32. The arithmetic follows transformers' modeling_rope_utils.py operation by operation, so that
angles are the same to the last bit; the scalings' papers are named in `config`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.layers.config import FactorScaling, LinearScaling, RopeConfig, WavelengthScaling, YarnScaling


@dataclass(frozen=True, slots=True)
class Rotation:
    """A step's angles: `cos` and `sin` float32 [tokens, rotary_dim / 2]."""

    cos: Tensor
    sin: Tensor
    interleaved: bool


class Rope:
    """Turns positions into rotations, for sequences of up to `context` tokens.

    There is no table: a step's angles cost less than keeping the whole context's would.
    """

    def __init__(self, config: RopeConfig, context: int, device: torch.device) -> None:
        self.interleaved = config.interleaved
        self.frequencies = frequencies(config, context).to(device)
        self.axes = torch.tensor(config.axes, device=device) if config.axes else None
        self.magnitude = 1.0
        if isinstance(config.scaling, YarnScaling | FactorScaling):
            self.magnitude = config.scaling.magnitude

    def __call__(self, positions: Tensor) -> Rotation:
        """`positions` int64 [tokens], or [axes, tokens] -> the tokens' rotation."""
        turns = positions.to(torch.float32)
        if positions.ndim == 1:
            angles = turns[:, None] * self.frequencies
        else:
            angles = (turns[0][:, None] if self.axes is None else turns[self.axes].T) * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        if self.magnitude != 1.0:
            cos, sin = cos * self.magnitude, sin * self.magnitude
        return Rotation(cos, sin, self.interleaved)


def frequencies(config: RopeConfig, context: int) -> Tensor:
    """Radians per position, float32 [dim / 2], where sequences of up to `context` tokens are served."""
    exponents = torch.arange(0, config.dim, 2, dtype=torch.float32) / config.dim
    plain = 1.0 / (config.base**exponents)
    match config.scaling:
        case None:
            return plain
        case LinearScaling(factor):
            return plain / factor
        case WavelengthScaling():
            return _by_wavelength(plain, config.scaling)
        case YarnScaling():
            return _yarn(config.base**exponents, config, config.scaling)
        case FactorScaling(short, long, original):
            factors = torch.tensor(long if context > original else short, dtype=torch.float32)
            return 1.0 / (factors * config.base**exponents)


def _by_wavelength(plain: Tensor, scaling: WavelengthScaling) -> Tensor:
    wavelength = 2 * math.pi / plain
    longest, shortest = scaling.original / scaling.low, scaling.original / scaling.high
    scaled = torch.where(wavelength > longest, plain / scaling.factor, plain)
    smooth = (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low)
    blend = (1 - smooth) * scaled / scaling.factor + smooth * scaled
    return torch.where((wavelength >= shortest) & (wavelength <= longest), blend, scaled)


def _yarn(periods: Tensor, config: RopeConfig, scaling: YarnScaling) -> Tensor:
    def dimension(rotations: float) -> float:
        """The dimension that turns `rotations` times within the original context."""
        return (
            config.dim * math.log(scaling.original / (rotations * 2 * math.pi)) / (2 * math.log(config.base))
        )

    low, high = dimension(scaling.fast), dimension(scaling.slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.dim - 1)
    if low == high:
        high += 0.001  # the ramp must have a length
    ramp = torch.clamp((torch.arange(config.dim // 2, dtype=torch.float32) - low) / (high - low), 0, 1)
    keep = 1 - ramp
    return 1.0 / (scaling.factor * periods) * (1 - keep) + 1.0 / periods * keep
