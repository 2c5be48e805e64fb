"""GGUF files written by the `gguf` package: what all tests share. Tiny models of families are in `tests.models`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy


def write_gguf(
    path: Path, architecture: str = "llama", kind: str = "model", seed: int = 0, **metadata: Any
) -> Path:
    """A file with two tensors (2,112 elements) of type F32 and a vocabulary of 100 tokens."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q4_K_M))
    if kind == "model":
        writer.add_context_length(2048)
        writer.add_embedding_length(32)
        writer.add_token_list([f"token {number}" for number in range(100)])
    for key, value in metadata.items():
        name = key.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_uint32(name, value)
    numbers = numpy.random.default_rng(seed)
    writer.add_tensor("token_embd.weight", numbers.random((64, 32), dtype=numpy.float32))
    writer.add_tensor("output_norm.weight", numbers.random((64,), dtype=numpy.float32))
    finish(writer)
    return path


def write_shards(folder: Path, seed: int = 0) -> list[Path]:
    """A model in three files: metadata alone, then a tensor in each (2,112 elements)."""
    writer = gguf.GGUFWriter(
        folder / "tiny-Q4_K_M.gguf", "llama", split_max_tensors=1, small_first_shard=True
    )
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q4_K_M))
    writer.add_context_length(2048)
    numbers = numpy.random.default_rng(seed)
    writer.add_tensor("token_embd.weight", numbers.random((64, 32), dtype=numpy.float32))
    writer.add_tensor("output_norm.weight", numbers.random((64,), dtype=numpy.float32))
    finish(writer)
    return sorted(folder.glob("tiny-Q4_K_M-0*.gguf"))


def finish(writer: gguf.GGUFWriter) -> None:
    """Puts on disk what the writer has been given."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
