"""The one place that chooses an implementation for an operation.

By the operation's name, the device's type and the dtype. An implementation that is absent leaves the torch reference
in its place; `report` says which ones are there and why others are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutti.kernels import reference, reference_attention
from tutti.kernels.cpu.onednn import OneDnnInt8Linear, OneDnnLinear
from tutti.kernels.linear import PackedLinear, plain_linear
from tutti.kernels.weights import Dense, Quantized, Weight

Operation = Callable[..., Any]
Packer = Callable[[Weight, Tensor | None, torch.device, torch.dtype], PackedLinear]

_REFERENCE: dict[str, Operation] = {
    "paged_attention": reference_attention.paged_attention,
    "rms_norm": reference.rms_norm,
    "add_rms_norm": reference.add_rms_norm,
    "layer_norm": reference.layer_norm,
    "apply_rope": reference.apply_rope,
    "activate": reference.activate,
    "gated": reference.gated,
}


def chosen(name: str, x: Tensor) -> Operation:
    """The implementation of the operation `name` for tensors like `x`."""
    return _REFERENCE[name]


def linear_packer(weight: Weight, device: torch.device, dtype: torch.dtype) -> Packer:
    """What packs `weight` for `device` and activations of `dtype`."""
    if device.type != "cpu":
        return plain_linear
    if isinstance(weight, Quantized):
        return _onednn_int8 if is_w8a8(weight) and torch.backends.mkldnn.is_available() else plain_linear
    if dtype == torch.bfloat16 and torch.backends.mkldnn.is_available():
        return _onednn
    return plain_linear


def is_w8a8(weight: Quantized) -> bool:
    """Whether int8 arithmetic can multiply `weight`: signed, symmetric, one scale per output channel."""
    return weight.bits == 8 and weight.q.dtype == torch.int8 and weight.zero is None and weight.per_channel


def _onednn(weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype) -> PackedLinear:
    assert isinstance(weight, Dense)
    return OneDnnLinear(weight.tensor.to(dtype), None if bias is None else bias.to(dtype))


def _onednn_int8(
    weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> PackedLinear:
    assert isinstance(weight, Quantized)
    return OneDnnInt8Linear(weight, bias)
