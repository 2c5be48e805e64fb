"""What can be written as GGUF: a checkpoint in Hugging Face's form, or another GGUF file. Opening reads no tensor.

Both become a `Source`: metadata, what the mixes ask, and tensors that are read, memory-mapped, when their turn comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint, listing, open_checkpoint
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.export import families, vocabulary
from tutti.formats.gguf.export.naming import ggml_name, is_computed
from tutti.formats.gguf.metadata import Metadata, text
from tutti.formats.gguf.mixes import Outline
from tutti.formats.gguf.source import Contents, StoredTensor, read_contents
from tutti.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = {
    "float32": kinds.F32,
    "float16": kinds.F16,
    "bfloat16": kinds.BF16,
    "float64": kinds.F64,
}


def _nothing() -> None:
    """Nothing to release."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor under llama.cpp's name, `shape` [..., row].

    `load` gives it as it is stored, uint8 [rows, bytes of a row] of the type `kind`; after `release` its pages may go.
    """

    name: str
    kind: BlockType
    shape: tuple[int, ...]
    load: Callable[[], Tensor]
    release: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class Source:
    """Everything a GGUF file is made of, except which type each tensor gets."""

    metadata: Metadata
    outline: Outline
    tensors: tuple[SourceTensor, ...]


def open_source(path: Path) -> Source:
    """The source at `path`, a GGUF file or a checkpoint's directory.

    Raises ModelNotFound when there is nothing, CheckpointError for what is damaged or cannot be written as GGUF.
    """
    return _from_gguf(path) if path.is_file() else _from_checkpoint(path)


def _from_checkpoint(folder: Path) -> Source:
    checkpoint = open_checkpoint(folder)
    config = checkpoint.config
    family = families.find_family(config)
    names = {name: ggml_name(name) for name in checkpoint.tensors if not is_computed(name)}
    if config.get("tie_word_embeddings"):
        names.pop("lm_head.weight", None)
    unknown = [name for name, ggml in names.items() if ggml is None]
    if unknown:
        raise CheckpointError(
            f"{folder} has {len(unknown)} tensors without a place in GGUF: {listing(unknown)}"
        )
    outline = families.outline(config, tied="output.weight" not in names.values())
    tensors = [
        _checkpoint_tensor(checkpoint, name, ggml, family, outline)
        for name, ggml in names.items()
        if ggml is not None
    ]
    factors = families.rope_factors(config)
    if factors is not None:
        tensors.append(_constant("rope_freqs.weight", factors))
    metadata = families.describe(config, family)
    metadata["general.name"] = text(folder.resolve().name)
    return Source(metadata | vocabulary.describe(folder, config), outline, tuple(sorted(tensors, key=_place)))


def _checkpoint_tensor(
    checkpoint: Checkpoint, name: str, ggml: str, family: families.Family, outline: Outline
) -> SourceTensor:
    info = checkpoint.tensors[name]
    kind = _KINDS.get(info.dtype)
    if kind is None:
        raise CheckpointError(f"{name} is {info.dtype}; weights are float32, float16 or bfloat16")
    heads = {"attn_q": outline.heads, "attn_k": outline.kv_heads}.get(ggml.split(".")[-2], 0)
    turned = heads if family.interleaved else 0

    def load() -> Tensor:
        import torch

        tensor = checkpoint.tensor(name)
        if turned:
            tensor = _interleaved(tensor, turned)
        return tensor.contiguous().view(torch.uint8).view(-1, kind.row_bytes(info.shape[-1]))

    return SourceTensor(ggml, kind, info.shape, load, lambda: checkpoint.release(name))


def _interleaved(tensor: Tensor, heads: int) -> Tensor:
    """The rows of each head in llama.cpp's order for Llama, whose rope turns neighbours:

    checkpoint:  a0 a1 ... b0 b1 ...   (a_i turns with b_i)   ->   a0 b0 a1 b1 ...
    """
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _constant(name: str, values: list[float]) -> SourceTensor:
    def load() -> Tensor:
        import torch

        return torch.tensor([values], dtype=torch.float32).view(torch.uint8)

    return SourceTensor(name, kinds.F32, (len(values),), load)


def _place(tensor: SourceTensor) -> tuple[int, str]:
    """Layers in order, behind what belongs to none."""
    parts = tensor.name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, tensor.name)


def _from_gguf(file: Path) -> Source:
    contents = read_contents(file)
    outline = _gguf_outline(file, contents)
    infos = {
        tensor.name: TensorInfo(
            "uint8",
            (
                tensor.kind.nbytes_of(tensor.shape) // tensor.kind.row_bytes(tensor.shape[-1]),
                tensor.kind.row_bytes(tensor.shape[-1]),
            ),
            tensor.kind.nbytes_of(tensor.shape),
            tensor.file,
            tensor.offset,
        )
        for tensor in contents.tensors
    }
    checkpoint = Checkpoint(file, {}, infos)
    kept = {
        key: field
        for key, field in contents.metadata.items()
        if not key.startswith("split.") and key != "general.alignment"
    }
    return Source(kept, outline, tuple(_gguf_tensor(checkpoint, tensor) for tensor in contents.tensors))


def _gguf_tensor(checkpoint: Checkpoint, tensor: StoredTensor) -> SourceTensor:
    name = tensor.name
    return SourceTensor(
        name, tensor.kind, tensor.shape, lambda: checkpoint.tensor(name), lambda: checkpoint.release(name)
    )


def _gguf_outline(file: Path, contents: Contents) -> Outline:
    """Of a language model. Raises CheckpointError for another (a projector, a vocabulary without weights)."""
    architecture = contents.metadata.get("general.architecture")

    def value(key: str, default: Any = None) -> Any:
        field = contents.metadata.get(f"{architecture.value}.{key}") if architecture else None
        found = default if field is None else field.value
        return max(found, default=default) if isinstance(found, list) else found  # a number for every layer

    layers = value("block_count")
    names = {tensor.name for tensor in contents.tensors}
    if not layers or "token_embd.weight" not in names:
        raise CheckpointError(f"{file} is no language model: it has no layers or no token embedding")
    heads = value("attention.head_count", 1)
    return Outline(
        layers=layers,
        heads=heads,
        kv_heads=value("attention.head_count_kv", heads),
        experts=value("expert_count", 0),
        tied="output.weight" not in names,
    )
