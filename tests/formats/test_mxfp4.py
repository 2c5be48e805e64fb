"""MXFP4 unpacks to the canonical form, to the values that transformers unpacks it to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tutti.errors import CheckpointError
from tutti.formats import mxfp4
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.safetensors import TensorInfo
from tutti.formats.shapes import weight_shapes
from tutti.kernels.weights import dequantize

BLOCKS, SCALES = "experts.up_blocks", "experts.up_scales"


def header(*shape: int, dtype: str = "uint8") -> TensorInfo:
    return TensorInfo(dtype, shape, 0, Path("absent"), 0)


def checkpoint(tensors: dict[str, TensorInfo]) -> Checkpoint:
    return Checkpoint(Path("absent"), {"quantization_config": {"quant_method": "mxfp4"}}, tensors)


def test_every_code_has_its_value() -> None:
    blocks = torch.tensor([[[low | high << 4 for low, high in zip(range(16), range(16), strict=True)]]])
    (row,) = dequantize(mxfp4.unpack(blocks.to(torch.uint8), torch.tensor([[127]], dtype=torch.uint8)))
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    assert row[::2].tolist() == row[1::2].tolist() == values + [-value for value in values]


def test_unpacked_weights_equal_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 5, 4, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(90, 140, (3, 5, 4), generator=generator, dtype=torch.uint8)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    for expert in range(3):
        assert torch.equal(dequantize(mxfp4.unpack(blocks[expert], scales[expert])), theirs[expert].T)


def test_shapes_are_those_of_the_unpacked_weights() -> None:
    tensors = {
        BLOCKS: header(3, 8, 2, 16),
        SCALES: header(3, 8, 2),
        "norm.weight": header(64, dtype="bfloat16"),
    }
    assert weight_shapes(checkpoint(tensors)) == {"experts.up": (3, 8, 64), "norm.weight": (64,)}


@pytest.mark.parametrize(
    "tensors", [{BLOCKS: header(3, 8, 2, 16)}, {BLOCKS: header(3, 8, 2, 16), SCALES: header(3, 8, 4)}]
)
def test_blocks_without_their_scales_are_refused(tensors: dict[str, TensorInfo]) -> None:
    with pytest.raises(CheckpointError, match=SCALES):
        weight_shapes(checkpoint(tensors))
