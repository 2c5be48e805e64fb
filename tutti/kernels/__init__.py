"""Kernels: one operation, several implementations, one place that chooses (`choose`).

Public: the operations (`paged_attention`, `rms_norm`, ...), the canonical form of weights and `pack_linear`. Each
attribute is imported when it is first asked for, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutti.kernels.choose import fuse_block, fuse_experts
    from tutti.kernels.linear import PackedLinear
    from tutti.kernels.memory import advise_huge_pages
    from tutti.kernels.ops import (
        activate,
        add_rms_norm,
        apply_rope,
        argmax,
        attention,
        gated,
        gated_sum,
        layer_norm,
        modulated_norm,
        pack_linear,
        paged_attention,
        quantize,
        quantize_int8,
        rms_norm,
        snake,
    )
    from tutti.kernels.paged import LayerCache, PagedBatch
    from tutti.kernels.weights import Dense, Quantized, Weight, dequantize

__all__ = [
    "Dense",
    "LayerCache",
    "PackedLinear",
    "PagedBatch",
    "Quantized",
    "Weight",
    "activate",
    "add_rms_norm",
    "advise_huge_pages",
    "apply_rope",
    "argmax",
    "attention",
    "dequantize",
    "fuse_block",
    "fuse_experts",
    "gated",
    "gated_sum",
    "layer_norm",
    "modulated_norm",
    "pack_linear",
    "paged_attention",
    "quantize",
    "quantize_int8",
    "rms_norm",
    "snake",
]

_HOMES = {
    **dict.fromkeys(("fuse_block", "fuse_experts"), "choose"),
    **dict.fromkeys(("LayerCache", "PagedBatch"), "paged"),
    **dict.fromkeys(("Dense", "Quantized", "Weight", "dequantize"), "weights"),
    "PackedLinear": "linear",
    "advise_huge_pages": "memory",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'ops')}"), name)
    globals()[name] = value
    return value
