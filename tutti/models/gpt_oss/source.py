"""gpt-oss's experts one by one, out of the tensors that hold all of a layer's.

    experts.gate_up_proj         [experts, hidden, 2 * width]     as transformers saves it, columns first
    experts.gate_up_proj_blocks  [experts, 2 * width, groups, 16] as published, in MXFP4 with ..._scales
    experts.gate_up_proj_bias    [experts, 2 * width]             and the same for down_proj

become `experts.N.gate_up_proj.weight` [2 * width, hidden] and `experts.N.gate_up_proj.bias`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tutti.errors import CheckpointError
from tutti.formats import mxfp4
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.shapes import weight_shapes
from tutti.kernels.weights import Dense, Weight
from tutti.models.weights import Shape

FUSED = re.compile(r"(?P<prefix>.*\.experts)\.(?P<matrix>gate_up_proj|down_proj)(?P<bias>_bias)?")


@dataclass(frozen=True, slots=True)
class _Part:
    """Expert `index` of the weight `name`."""

    name: str
    index: int


class ExpertSource:
    """A checkpoint's weights, fused experts apart. Raises CheckpointError for a quantization other than MXFP4."""

    def __init__(self, checkpoint: Checkpoint, *, columns_first: bool = True) -> None:
        """`columns_first`: matrices that are not packed are stored as [experts, inputs, outputs]."""
        method = checkpoint.quantization if checkpoint.config.get("quantization_config") else None
        if method not in (None, "mxfp4"):
            raise CheckpointError(
                f"{checkpoint.path}: its weights are quantized ({method}), which is not supported for this model; "
                "take it in bfloat16 or MXFP4"
            )
        self._checkpoint = checkpoint
        self._columns_first = columns_first
        self._parts: dict[str, _Part] = {}
        self.shapes: dict[str, Shape] = {}
        for name, shape in weight_shapes(checkpoint).items():
            fused = FUSED.fullmatch(name)
            if fused is None:
                self.shapes[name] = shape
                continue
            suffix = "bias" if fused["bias"] else "weight"
            for index in range(shape[0]):
                part = f"{fused['prefix']}.{index}.{fused['matrix']}.{suffix}"
                self._parts[part] = _Part(name, index)
                turned = columns_first and not fused["bias"] and not self._packed(name)
                self.shapes[part] = shape[:0:-1] if turned else shape[1:]

    def _packed(self, name: str) -> bool:
        return name + mxfp4.BLOCKS in self._checkpoint.tensors

    def weight(self, name: str) -> Weight:
        """See `WeightSource.weight`."""
        part = self._parts.get(name)
        if part is None:
            return self._checkpoint.weight(name)
        if self._packed(part.name):
            blocks, scales = (self._checkpoint.tensor(stored) for stored in self._stored(part.name))
            return mxfp4.unpack(blocks[part.index], scales[part.index])
        tensor = self._checkpoint.tensor(part.name)[part.index]
        return Dense(tensor.T.contiguous() if tensor.ndim == 2 and self._columns_first else tensor)

    def release(self, name: str) -> None:
        """See `WeightSource.release`."""
        part = self._parts.get(name)
        for stored in self._stored(name if part is None else part.name):
            self._checkpoint.release(stored)

    def _stored(self, name: str) -> tuple[str, ...]:
        """The tensors of the file that hold the weight `name`."""
        return (name + mxfp4.BLOCKS, name + mxfp4.SCALES) if self._packed(name) else (name,)
