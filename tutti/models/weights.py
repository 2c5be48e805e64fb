"""From a checkpoint's tensors to a model's parameters: rename, merge, pack, one parameter at a time.

A family declares a table from its parameters' names to the checkpoint's. Everything is checked against the headers
before the first byte is read: a tensor that is missing, unknown or of the wrong shape is an error that names it.
Then each parameter takes its tensors, packs them, and the mapped pages go: the peak is the packed model plus one layer.

A source gives tensors by their plain names. Formats that store a weight in several tensors (codes, scales, zeros), or
under other names, are other sources of the same stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint, listing
from tutti.kernels.weights import Weight, stack, take_rows
from tutti.layers.parameters import LoadOptions, Parameter, TensorSpec

Shape = tuple[int, ...]


class WeightSource(Protocol):
    """Where weights come from."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every weight there is, by name."""
        ...

    def weight(self, name: str) -> Weight:
        """The weight, possibly a view of a mapped file."""
        ...

    def release(self, name: str) -> None:
        """The weight has been taken; its pages may go."""
        ...


class PlainSource:
    """The tensors of a checkpoint, one for each weight.

    Those of components in diffusers' format are not among them: they are loaded by other means. Raises CheckpointError
    for a checkpoint whose weights are in several tensors: codes would be taken for weights.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.config.get("quantization_config"):
            method = checkpoint.quantization
            raise CheckpointError(
                f"{checkpoint.path}: its weights are quantized ({method}), which is not supported for this model; "
                "take the checkpoint in bfloat16, and --quantization int8 to quantize it while loading"
            )
        self.checkpoint = checkpoint
        others = tuple(f"{component}." for component in checkpoint.config.get("components", ()))
        self.shapes = {
            name: info.shape for name, info in checkpoint.tensors.items() if not name.startswith(others)
        }

    def weight(self, name: str) -> Weight:
        """See `WeightSource.weight`."""
        return self.checkpoint.weight(name)

    def release(self, name: str) -> None:
        """See `WeightSource.release`."""
        self.checkpoint.release(name)


@dataclass(frozen=True, slots=True)
class Rows:
    """A checkpoint's tensor whose rows come in another order than ours; `order` gives ours as row indices, int64."""

    name: str
    order: Callable[[], torch.Tensor]


# A parameter's name -> where its tensors are, without their suffix; several names are stacked in this order.
# "{}" stands for a number (a layer, an expert), the same numbers on both sides.
Entry = str | tuple[str, ...] | Rows
Table = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class _Step:
    """One parameter and the source's names of each of its tensors."""

    parameter: Parameter
    tensors: tuple[tuple[TensorSpec, tuple[str, ...]], ...]
    rows: Rows | None


def renamed(table: Mapping[str, str | tuple[str, ...]], old: str, new: str) -> dict[str, Entry]:
    """The table with the prefix `old` of the checkpoint's names replaced by `new`."""

    def rename(name: str) -> str:
        return new + name.removeprefix(old) if name.startswith(old) else name

    return {
        ours: rename(entry) if isinstance(entry, str) else tuple(map(rename, entry))
        for ours, entry in table.items()
    }


def load(
    parameters: Iterable[tuple[str, Parameter]],
    table: Table,
    source: WeightSource,
    options: LoadOptions,
    ignore: Collection[str] = (),
) -> None:
    """Fills every parameter from `source` by `table`.

    `ignore` are regular expressions of tensors that checkpoints carry and nobody needs (buffers, tied copies). Raises
    CheckpointError before anything is loaded when tensors are missing, unknown or of the wrong shape.
    """
    steps = [_step(name, parameter, table) for name, parameter in parameters]
    _check(steps, source, ignore)
    for step in steps:
        tensors = {}
        for spec, names in step.tensors:
            weight = stack([source.weight(name) for name in names], options.dtype)
            tensors[spec.suffix] = weight if step.rows is None else take_rows(weight, step.rows.order())
        step.parameter.load(tensors, options)
        del tensors
        for _, names in step.tensors:
            for name in names:
                source.release(name)


def names_of(name: str, table: Table) -> tuple[tuple[str, ...], Rows | None]:
    """Where the tensors of the parameter `name` are in the checkpoint, without their suffix, and in what order."""
    entry = table[re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)]
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    bases = entry if isinstance(entry, tuple) else (entry.name if isinstance(entry, Rows) else entry,)
    return tuple(base.format(*numbers) for base in bases), entry if isinstance(entry, Rows) else None


def _step(name: str, parameter: Parameter, table: Table) -> _Step:
    named, rows = names_of(name, table)
    tensors = tuple(
        (spec, tuple(f"{base}.{spec.suffix}" if spec.suffix else base for base in named))
        for spec in parameter.specs
    )
    return _Step(parameter, tensors, rows)


def _check(steps: list[_Step], source: WeightSource, ignore: Collection[str]) -> None:
    """Raises CheckpointError unless the source has exactly the tensors the steps need."""
    expected: dict[str, Shape] = {}
    for step in steps:
        for spec, names in step.tensors:
            if len(names) == 1:
                expected[names[0]] = spec.shape
            elif len(names) == len(spec.slots):
                expected |= {
                    name: (rows, *spec.shape[1:]) for name, rows in zip(names, spec.slots, strict=True)
                }
            else:
                raise ValueError(
                    f"{len(names)} tensors for the {len(spec.slots)} slots of {', '.join(names)}"
                )
    shapes = source.shapes
    missing = [name for name in expected if name not in shapes]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of the {len(expected)} tensors the model needs: "
            f"{listing(missing)}"
        )
    ignored = re.compile("|".join(ignore) or r"(?!)")
    unknown = [name for name in shapes if name not in expected and not ignored.fullmatch(name)]
    if unknown:
        raise CheckpointError(
            f"the checkpoint has {len(unknown)} tensors the model has no place for: {listing(unknown)}"
        )
    wrong = [
        f"{name} is {list(shapes[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if tuple(shapes[name]) != tuple(shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors have a shape that config.json contradicts: {listing(wrong)}"
        )
