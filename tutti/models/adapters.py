"""Adapters onto a model: each pair of matrices to the slot of the linear layer that its module became."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import listing
from tutti.formats.lora import Adapter, Pair
from tutti.layers.linear import Linear
from tutti.layers.lora import Addition, LowRank
from tutti.layers.parameters import Parameter
from tutti.models.weights import Rows, Table, names_of


def adapt(
    parameters: Iterable[tuple[str, Parameter]],
    table: Table,
    adapter: Adapter,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Adds `adapter` to the linear layers among `parameters`, which `table` names as the checkpoint does.

    Nothing is added unless all of it fits. Raises CheckpointError naming the tensors that do not.
    """
    places: dict[str, tuple[Linear, int, int, Rows | None]] = {}
    for name, parameter in parameters:
        if isinstance(parameter, Linear):
            modules, rows = names_of(name, table)
            sizes = parameter.slots if len(modules) > 1 else (parameter.out_features,)
            start = 0
            for module, size in zip(modules, sizes, strict=True):
                places[module] = (parameter, start, size, rows)
                start += size
    lost = [pair.name for module, pair in adapter.pairs.items() if module not in places]
    if lost:
        raise CheckpointError(
            f"{adapter.path}: this model has no linear layer for {len(lost)} tensors of the adapter: {listing(lost)}"
        )
    for module, pair in adapter.pairs.items():
        layer, _, size, _ = places[module]
        if (pair.b.shape[0], pair.a.shape[1]) != (size, layer.in_features):
            raise CheckpointError(
                f"{adapter.path}: {pair.name} and its fellow make {[pair.b.shape[0], pair.a.shape[1]]}, "
                f"but {module} of this model is {[size, layer.in_features]}"
            )
    for module, pair in adapter.pairs.items():
        layer, start, _, rows = places[module]
        layer.additions.append(Addition(_change(pair, rows, device, dtype), start))


def _change(pair: Pair, rows: Rows | None, device: torch.device, dtype: torch.dtype) -> LowRank:
    b = pair.b if rows is None else pair.b[rows.order()]
    return LowRank(
        pair.a.to(device, dtype, copy=True).contiguous(), b.to(device, dtype, copy=True).contiguous()
    )
