"""The one place that chooses an implementation for an operation.

By the operation's name, the device's type and the dtype. An implementation that is absent leaves the torch reference
in its place; `report` says which ones are there and why others are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tutti.kernels import reference, reference_attention

Operation = Callable[..., Any]

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
