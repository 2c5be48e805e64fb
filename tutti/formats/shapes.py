"""What a checkpoint's weights are once unpacked: names and shapes, from headers alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from tutti.formats import mxfp4
from tutti.formats.checkpoint import Checkpoint


def weight_shapes(checkpoint: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """The shape of every weight by its plain name, whatever form it is stored in. Raises CheckpointError."""
    if quantization_method(checkpoint) == "mxfp4":
        return mxfp4.shapes(checkpoint.tensors)
    return {name: info.shape for name, info in checkpoint.tensors.items()}


def quantization_method(checkpoint: Checkpoint) -> str | None:
    """The `quant_method` of a quantized checkpoint, None for one that is not."""
    quantization = checkpoint.config.get("quantization_config")
    return str(quantization.get("quant_method", "unnamed")) if quantization else None
