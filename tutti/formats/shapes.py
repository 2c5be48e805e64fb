"""What a checkpoint's weights are once unpacked: names and shapes, from headers alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from tutti.formats import mxfp4
from tutti.formats.checkpoint import Checkpoint


def weight_shapes(checkpoint: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """The shape of every weight by its plain name, whatever form it is stored in. Raises CheckpointError."""
    if checkpoint.quantization == "mxfp4":
        return mxfp4.shapes(checkpoint.tensors)
    return {name: info.shape for name, info in checkpoint.tensors.items()}


def kept_bytes(checkpoint: Checkpoint, name: str) -> int | None:
    """Bytes that the weight of this plain name takes where it stays quantized; None where it does not."""
    if name in checkpoint.tensors:
        return checkpoint.kept_bytes(name)
    return mxfp4.kept_bytes(checkpoint.tensors, name)
