"""The one place that chooses an implementation for an operation.

By the operation's name, the device and the dtype. Where the native kernels are not built (or switched off by
`Settings.native_kernels`) the torch reference and oneDNN serve; `report` says what was chosen and why.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from tutti.kernels import reference, reference_attention
from tutti.kernels.cpu import native, onednn
from tutti.kernels.cpu.fused import NativeBlock, NativeExperts, Unjoinable
from tutti.kernels.cpu.linear import NativePacker, is_grouped
from tutti.kernels.cpu.ops import TYPES, NativeOperations
from tutti.kernels.fused import BlockParts, FeedForwardParts, FusedBlock, FusedExperts
from tutti.kernels.linear import PackedLinear, StackedLinear, plain_linear, quantized_linear
from tutti.kernels.weights import Quantized, Stacked, Weight
from tutti.settings import read_settings

P = TypeVar("P")
T = TypeVar("T")
Operation = Callable[..., Any]
Packer = Callable[[Weight, Tensor | None, torch.device, torch.dtype], PackedLinear]

_REFERENCE: dict[str, Operation] = {
    "paged_attention": reference_attention.paged_attention,
    "attention": reference.attention,
    "rms_norm": reference.rms_norm,
    "add_rms_norm": reference.add_rms_norm,
    "modulated_norm": reference.modulated_norm,
    "gated_sum": reference.gated_sum,
    "layer_norm": reference.layer_norm,
    "apply_rope": reference.apply_rope,
    "activate": reference.activate,
    "gated": reference.gated,
    "quantize_rows": reference.quantize_rows,
    "argmax": reference.argmax,
    "snake": reference.snake,
}


def _load() -> native.Native:
    if not read_settings().native_kernels:
        return native.Native(None, None, "switched off (TUTTI_NATIVE_KERNELS)")
    return native.load()


_native = _load()
_packer: NativePacker | None = None
_operations = dict(_REFERENCE)  # for float32 and bfloat16 on the CPU
if _native.module is not None:
    _packer = NativePacker(_native.module)
    _ours = NativeOperations(_native.module)
    _operations |= {
        "paged_attention": _ours.paged_attention,
        "attention": _ours.attention,
        "rms_norm": _ours.rms_norm,
        "add_rms_norm": _ours.add_rms_norm,
        "modulated_norm": _ours.modulated_norm,
        "gated_sum": _ours.gated_sum,
        "apply_rope": _ours.apply_rope,
        "activate": _ours.activate,
        "gated": _ours.gated,
        "quantize_rows": _ours.quantize_rows,
        "argmax": _ours.argmax,
        "snake": _ours.snake,
    }


def chosen(name: str, x: Tensor) -> Operation:
    """The implementation of the operation `name` for tensors like `x`."""
    if x.is_cpu and x.dtype in TYPES:
        return _operations[name]
    return _REFERENCE[name]


def linear_packer(weight: Weight, device: torch.device, dtype: torch.dtype) -> Packer:
    """What packs `weight` for `device` and activations of `dtype`."""
    if isinstance(weight, Stacked):
        return _stacked
    native = device.type == "cpu" and dtype in TYPES
    if isinstance(weight, Quantized) and not is_w8a8(weight):
        return _packer.grouped if native and _packer is not None and is_grouped(weight) else quantized_linear
    int8 = isinstance(weight, Quantized)
    if not native:
        return quantized_linear if int8 else plain_linear
    if _packer is not None:
        return _packer.int8 if int8 else _packer.dense
    if not torch.backends.mkldnn.is_available() or (dtype == torch.float32 and not int8):
        return plain_linear
    return onednn.int8_linear if int8 else onednn.linear


def _stacked(weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype) -> PackedLinear:
    """Each part by what packs it."""
    assert isinstance(weight, Stacked)
    sizes = [part.shape[0] for part in weight.parts]
    biases = [None] * len(sizes) if bias is None else bias.split(sizes)
    return StackedLinear(
        [
            linear_packer(part, device, dtype)(part, own, device, dtype)
            for part, own in zip(weight.parts, biases, strict=True)
        ]
    )


def fuse_block(parts: BlockParts) -> FusedBlock | None:
    """The block of `parts` in one call; None where the device has no kernel for it, and they serve one by one."""
    return _joined(NativeBlock, parts)


def fuse_experts(experts: list[FeedForwardParts]) -> FusedExperts | None:
    """The experts of a mixture in one call; None likewise."""
    return _joined(NativeExperts, experts)


def _joined(kind: Callable[[ModuleType, P], T], parts: P) -> T | None:
    if _native.module is None:
        return None
    try:
        return kind(_native.module, parts)
    except Unjoinable:
        return None


def is_w8a8(weight: Quantized) -> bool:
    """Whether int8 arithmetic can multiply `weight`: signed, symmetric, one scale per output channel."""
    symmetric = weight.zero is None and weight.plain
    return weight.bits == 8 and weight.q.dtype == torch.int8 and symmetric and weight.per_channel


def report() -> dict[str, str]:
    """What serves each kind of device, in words, for `tutti doctor`."""
    if _native.module is not None:
        cpu = f"native ({_native.name})"
    else:
        linear = "oneDNN" if torch.backends.mkldnn.is_available() else "plain"
        cpu = f"torch, with {linear} linear layers; native kernels: {_native.reason}"
    return {"cpu": cpu, "gpu": "torch"}
