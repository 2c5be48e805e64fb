"""Writing a model as a GGUF file of a mix of types: what `tutti quantize` does.

Tensor by tensor, each memory-mapped and worked on in pieces of a few megabytes: memory stays small whatever the model's
size. The file's size is known, and the disk's space looked at, before anything is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tutti.errors import CheckpointError, ConfigError
from tutti.formats.gguf import writer
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.dequantize import dequantize
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.quantize import quantize
from tutti.formats.gguf.metadata import Field, Metadata, ValueType, integer
from tutti.formats.gguf.mixes import Mix, kind_of
from tutti.formats.gguf.sources import Source, SourceTensor, open_source
from tutti.settings import format_size

PIECE = 1 << 22  # elements worked on at once
QUANTIZATION_VERSION = 2  # of the block types' layouts

_WHOLE_NUMBERS = (kinds.I8, kinds.I16, kinds.I32, kinds.I64)

Progress = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """How far the writing is: the tensor in hand, its number (from 1) of `tensors`, and bytes written of `nbytes`."""

    name: str
    kind: BlockType
    number: int
    tensors: int
    written: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written: the file's size in bytes, its tensors and their elements."""

    nbytes: int
    tensors: int
    elements: int

    @property
    def bits(self) -> float:
        """Bits of the file per weight."""
        return 8 * self.nbytes / self.elements


def convert(path: Path, target: Path, mix: Mix, progress: Progress = lambda step: None) -> Summary:
    """Writes the model at `path`, a directory in Hugging Face's form or a GGUF file, to `target`.

    Raises ModelNotFound and CheckpointError for what cannot be read or written as GGUF, ConfigError when `target`
    cannot take it. Whatever fails, `target` is as it was before.
    """
    _check_target(path, target)
    source = open_source(path)
    plans = [_plan(source, tensor, mix) for tensor in source.tensors]
    elements = sum(plan.nbytes // plan.kind.nbytes * plan.kind.elements for plan in plans)
    metadata = _metadata(source.metadata, mix, elements)
    needed, free = writer.size(metadata, plans), shutil.disk_usage(target.parent).free
    if needed > free:
        raise ConfigError(f"{target} takes {format_size(needed)}, and the disk has {format_size(free)} left")
    nbytes = writer.write(target, metadata, plans, _counted(plans, progress))
    return Summary(nbytes, len(plans), elements)


def _check_target(path: Path, target: Path) -> None:
    if target.is_dir():
        raise ConfigError(
            f"{target} is a directory; name the file to write, {target / 'model.gguf'} for instance"
        )
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is not a directory; make it first")
    if target.exists() and path.exists() and target.samefile(path):
        raise ConfigError(f"{target} is the source itself; name another file")


def _plan(source: Source, tensor: SourceTensor, mix: Mix) -> writer.TensorPlan:
    """What `tensor` becomes. Raises CheckpointError where it has been rounded too coarsely before."""
    if tensor.kind in _WHOLE_NUMBERS:
        kind = tensor.kind
    else:
        kind = kind_of(mix, tensor.name, tensor.shape, source.outline)
        if tensor.kind.quantized and tensor.kind.bits < 8 and kind is not tensor.kind:
            raise CheckpointError(
                f"{tensor.name} is {tensor.kind.name} already, and rounding it again would lose twice; quantize from "
                "bfloat16, float16 or Q8_0"
            )
    return writer.TensorPlan(tensor.name, kind, tensor.shape, partial(_pieces, tensor, kind))


def _pieces(tensor: SourceTensor, kind: BlockType) -> Iterator[memoryview]:
    """The bytes of `tensor` as `kind`."""
    data = tensor.load()
    step = max(1, PIECE // tensor.shape[-1])
    for start in range(0, len(data), step):
        try:
            rows = _converted(data[start : start + step], tensor.kind, kind)
        except CheckpointError as error:
            raise CheckpointError(f"{tensor.name}: {error.message}") from error
        yield rows.contiguous().flatten().numpy().data
    del data
    tensor.release()


def _converted(rows: Tensor, stored: BlockType, kind: BlockType) -> Tensor:
    if stored is kind:
        return rows
    return quantize(dequantize(rows, stored, torch.float32), kind)


def _metadata(metadata: Metadata, mix: Mix, elements: int) -> Metadata:
    """The source's metadata with what this file is; the architecture comes first, as readers expect."""
    said = {
        "general.file_type": integer(mix.file_type),
        "general.quantization_version": integer(QUANTIZATION_VERSION),
        "general.parameter_count": Field(ValueType.UINT64, elements),
    }
    return {"general.architecture": metadata["general.architecture"]} | metadata | said


def _counted(plans: list[writer.TensorPlan], progress: Progress) -> Callable[[writer.TensorPlan, int], None]:
    """Turns pieces into steps."""
    numbers = {plan.name: number for number, plan in enumerate(plans, 1)}
    total = sum(plan.nbytes for plan in plans)
    written = 0

    def count(plan: writer.TensorPlan, nbytes: int) -> None:
        nonlocal written
        written += nbytes
        progress(Step(plan.name, plan.kind, numbers[plan.name], len(plans), written, total))

    return count
