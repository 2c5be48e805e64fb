"""Tiny Llamas of random blocks: a GGUF file whose matrices all have one type of ggml. Nothing is quantized for them.

Random bytes are every code; the blocks' scales are set so that weights have the spread of a random model's. What the
`gguf` package cannot quantize to (K types, IQ4) is there as well as the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

HIDDEN, WIDE, LAYERS, HEADS, KV_HEADS, HEAD, VOCAB = 256, 512, 2, 4, 2, 64, 288
CONTEXT = 256

# Where a block's float16 scale lies, and its minimum, which keeps the mean at zero.
_SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
    "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ1_S": (0,),
}  # fmt: skip
# The mean of a code by its own, which a minimum has to take away: of Q4_1 and Q5_1 it is added, of the others taken.
_MEANS = {"Q4_1": -7.5, "Q5_1": -15.5, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}


def random_blocks(kind: str, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A matrix of type `kind` as uint8 [rows, bytes of a row], its weights about 1 / sqrt(columns)."""
    number = GGMLQuantizationType[kind]
    elements, size = gguf.GGML_QUANT_SIZES[number]
    rows, columns = shape
    blocks = random.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
    if kind == "MXFP4":
        exponent = 127 - round(math.log2(math.sqrt(columns) * 2.5))
        blocks[:, 0] = random.integers(exponent - 1, exponent + 2, len(blocks))
        return blocks.reshape(rows, -1)
    scales = random.uniform(0.75, 1.25, (len(blocks), 1))
    _set(blocks, kind, scales)
    spread = gguf.quants.dequantize(blocks, number).std()
    _set(blocks, kind, scales / (spread * math.sqrt(columns)))
    return blocks.reshape(rows, -1)


def _set(blocks: np.ndarray, kind: str, scales: np.ndarray) -> None:
    for place, factor in zip(_SCALES[kind], (1.0, _MEANS.get(kind, 0.0)), strict=False):
        blocks[:, place : place + 2] = (scales * factor).astype(np.float16).view(np.uint8)


def write_model(
    path: Path,
    kind: str,
    others: Mapping[str, str] | None = None,
    *,
    tied: bool = False,
    floats: bool = False,
    per_file: int = 0,
) -> Path:
    """Writes a Llama to `path` whose matrices, embedding and head included, have the type `kind`.

    `others` are the types of those that have another, by the last part of their names. `floats`: the same weights,
    dequantized, as float32. `per_file`: that many tensors in each of several files.
    """
    random = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama", split_max_tensors=per_file)
    _describe(writer)
    matrices = {"token_embd": (VOCAB, HIDDEN), "output": (VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        matrices |= {
            f"blk.{layer}.{name}": shape
            for name, shape in (
                ("attn_q", (HEADS * HEAD, HIDDEN)),
                ("attn_k", (KV_HEADS * HEAD, HIDDEN)),
                ("attn_v", (KV_HEADS * HEAD, HIDDEN)),
                ("attn_output", (HIDDEN, HEADS * HEAD)),
                ("ffn_gate", (WIDE, HIDDEN)),
                ("ffn_up", (WIDE, HIDDEN)),
                ("ffn_down", (HIDDEN, WIDE)),
            )
        }
    if tied:
        del matrices["output"]
    norms = ["output_norm", *(f"blk.{i}.{name}" for i in range(LAYERS) for name in ("attn_norm", "ffn_norm"))]
    for name in norms:
        writer.add_tensor(f"{name}.weight", random.uniform(0.5, 1.5, HIDDEN).astype(np.float32))
    for name, shape in matrices.items():
        own = (others or {}).get(name.split(".")[-1], kind)
        blocks, number = random_blocks(own, shape, random), GGMLQuantizationType[own]
        if floats:
            blocks, number = gguf.quants.dequantize(blocks, number), GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: GGUFWriter) -> None:
    """The configuration, and a tokenizer with a token for each byte."""
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    characters = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    tokens = characters + [f"<|{number}|>" for number in range(VOCAB - 256)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges([f"{characters[97]} {characters[98]}"])
    writer.add_token_types([1] * 256 + [3] * (VOCAB - 256))
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
