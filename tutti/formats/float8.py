"""Safetensors whose matrices are floats of 8 bits, with a scale or without.

Such files are made for ComfyUI: `X.weight` is float8_e4m3fn (or e5m2), and `X.scale_weight` (or `X.weight_scale`),
where there is one, multiplies it. Scales of activations, and notes to that program, are left alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.quantization import ROW_BYTES, is_matrix
from tutti.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from tutti.kernels.weights import Weight

FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
_SCALES = (".scale_weight", ".weight_scale")
_NOTES = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")


class Float8Checkpoint(Checkpoint):
    """See the module. `tensors` has no scales: they are in `weight`, and in what `tensor` gives."""

    def __init__(self, path: Path, tensors: dict[str, TensorInfo]) -> None:
        self._scales = {
            f"{name.removesuffix(ending)}.weight": info
            for name, info in tensors.items()
            for ending in _SCALES
            if name.endswith(ending)
        }
        kept = {name: info for name, info in tensors.items() if not name.endswith((*_SCALES, *_NOTES))}
        super().__init__(path, {}, kept)

    def weight(self, name: str) -> Weight:
        """See `Checkpoint.weight`: matrices of 8-bit floats stay what they are."""
        from tutti.kernels.weights import Quantized

        if not self._kept(name):
            return super().weight(name)
        codes = super().tensor(name)
        return Quantized(codes, self._scale(name), None, group_size=codes.shape[1], bits=8)

    def tensor(self, name: str) -> Tensor:
        """See `Checkpoint.tensor`: in float32, scaled, where the file has 8-bit floats."""
        found = super().tensor(name)
        if self._info(name).dtype not in FLOAT8:
            return found
        scale = self._scale(name)
        return found.float() * scale.view(-1, *[1] * (found.dim() - 1))

    def kept_bytes(self, name: str) -> int | None:
        """See `Checkpoint.kept_bytes`."""
        info = self._info(name)
        return info.nbytes + ROW_BYTES["fp8"] * info.shape[0] if self._kept(name) else None

    @property
    def quantization(self) -> str | None:
        """See `Checkpoint.quantization`."""
        return "fp8"

    def _kept(self, name: str) -> bool:
        info = self._info(name)
        return info.dtype in FLOAT8 and is_matrix(name, info.shape)

    def _scale(self, name: str) -> Tensor:
        """What multiplies each row of a tensor, float32 [rows, 1]. Raises CheckpointError."""
        import torch

        rows = self._info(name).shape[0] if self._info(name).shape else 1
        info = self._scales.get(name)
        if info is None:
            return torch.ones(rows, 1)
        if math.prod(info.shape) not in (1, rows):
            raise CheckpointError(
                f"{self.path}: the scale of {name} has {math.prod(info.shape)} numbers; one, or {rows}, are read"
            )
        scale = torch.frombuffer(
            self._map(info.file), dtype=torch.uint8, count=info.nbytes, offset=info.offset
        )
        return scale.clone().view(getattr(torch, info.dtype)).float().view(-1, 1).expand(rows, 1).contiguous()


def open_safetensors(path: Path, tensors: dict[str, TensorInfo]) -> Checkpoint:
    """The checkpoint of these `tensors`, which are in files of `path`."""
    some = any(info.dtype in FLOAT8 for info in tensors.values())
    return Float8Checkpoint(path, tensors) if some else Checkpoint(path, {}, tensors)
