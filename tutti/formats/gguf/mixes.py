"""Which tensor of a model gets which type: the mixes people know as Q4_K_M and the like. No torch.

The rules are llama.cpp's (its `quantize`, for architectures of the Llama kind), so that a file of a name has the size
and the quality that people expect of it: more bits for the output, and in some layers for the values and the way down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tutti.errors import ConfigError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import BlockType, fitting


@dataclass(frozen=True, slots=True)
class Mix:
    """`name` as people write it, `file_type` as the file's metadata number it, and the type of most tensors."""

    name: str
    file_type: int
    base: BlockType


@dataclass(frozen=True, slots=True)
class Outline:
    """What the rules ask about a model. `tied`: the embedding is the output, too."""

    layers: int
    heads: int
    kv_heads: int
    experts: int
    tied: bool


MIXES = {
    mix.name.lower(): mix
    for mix in (
        Mix("f32", 0, kinds.F32),
        Mix("f16", 1, kinds.F16),
        Mix("bf16", 32, kinds.BF16),
        Mix("q8_0", 7, kinds.Q8_0),
        Mix("q6_K", 18, kinds.Q6_K),
        Mix("q5_K_M", 17, kinds.Q5_K),
        Mix("q5_K_S", 16, kinds.Q5_K),
        Mix("q5_1", 9, kinds.Q5_1),
        Mix("q5_0", 8, kinds.Q5_0),
        Mix("q4_K_M", 15, kinds.Q4_K),
        Mix("q4_K_S", 14, kinds.Q4_K),
        Mix("q4_1", 3, kinds.Q4_1),
        Mix("q4_0", 2, kinds.Q4_0),
    )
}

_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
# Routers, and small matrices that are no operands of a matrix product.
_ALWAYS_FLOAT = ("ffn_gate_inp", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv")


def find_mix(name: str) -> Mix:
    """The mix of that name, in capitals or not. Raises ConfigError."""
    mix = MIXES.get(name.lower())
    if mix is None:
        known = ", ".join(mix.name for mix in MIXES.values())
        raise ConfigError(f"there is no type {name!r}; there are {known}", param="type")
    return mix


def kind_of(mix: Mix, name: str, shape: tuple[int, ...], outline: Outline) -> BlockType:
    """The type of the tensor `name` (ggml's) of `shape` [..., row].

    Vectors, norms, biases and routers stay float32. Where rows are no multiple of a type's blocks, see `fitting`.
    """
    matrix = len(shape) >= 2 and name.endswith(".weight") and "norm" not in name
    if not matrix or any(part in name for part in _ALWAYS_FLOAT):
        return kinds.F32
    if not mix.base.quantized:
        return mix.base
    return fitting(_chosen(mix, name, outline), shape[-1])


def _chosen(mix: Mix, name: str, outline: Outline) -> BlockType:
    """The mix's choice for a matrix, whatever the length of its rows."""
    if name == "output.weight" or (name == "token_embd.weight" and outline.tied):
        return mix.base if mix.base is kinds.Q8_0 else kinds.Q6_K
    match = _LAYER.fullmatch(name)
    if match is None:
        return mix.base
    layer, part = int(match[1]), match[2]
    if outline.experts == 8 and part in ("attn_v", "attn_k"):
        return kinds.Q8_0  # small beside eight experts
    if part == "attn_v":
        return _values_kind(mix, layer, outline)
    if part.startswith("ffn_down"):
        return _down_kind(mix, layer, outline)
    if part == "attn_qkv" and mix.name.endswith("_M"):
        return kinds.Q5_K if mix.base is kinds.Q4_K else kinds.Q6_K
    if part == "attn_output" and outline.experts == 8 and mix.base is kinds.Q4_K:
        return kinds.Q5_K
    return mix.base


def _values_kind(mix: Mix, layer: int, outline: Outline) -> BlockType:
    if mix.name.endswith("_M") and _deserves_more(layer, outline.layers):
        return kinds.Q6_K
    if mix.name == "q4_K_S" and layer < 4:
        return kinds.Q5_K
    if mix.base is kinds.Q4_K and outline.layers == 80 and outline.heads != outline.kv_heads:
        return kinds.Q5_K  # 70B models: eight heads share these values
    return mix.base


def _down_kind(mix: Mix, layer: int, outline: Outline) -> BlockType:
    if mix.name.endswith("_M") and _deserves_more(layer, outline.layers):
        return kinds.Q6_K
    if mix.name == "q4_K_S" and layer < outline.layers // 8:
        return kinds.Q5_K
    return mix.base


def _deserves_more(layer: int, layers: int) -> bool:
    """The first eighth of the layers, the last, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
