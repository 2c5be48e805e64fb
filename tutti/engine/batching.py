"""A plan turned into tensors: the flattened tokens of a step and, per KV group, where they live.

All arithmetic is on the host in NumPy, once per step and group, and becomes tensors at the end: nothing is made per
token or per layer.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch

from tutti.engine.kv.cache import BlockBooks
from tutti.engine.scheduler import Scheduled
from tutti.kernels.paged import PagedBatch
from tutti.models.protocols import ForwardInputs


def forward_inputs(
    batch: Items[Scheduled], books: BlockBooks, device: torch.device, further: int = 0
) -> ForwardInputs:
    """The model's inputs for `batch`; `further` codes go with each token of the output."""
    counts = np.array([item.count for item in batch], dtype=np.int64)
    starts = np.array([item.sequence.computed for item in batch], dtype=np.int64)
    query_starts = np.zeros(len(batch) + 1, dtype=np.int32)
    np.cumsum(counts, out=query_starts[1:])
    total = int(query_starts[-1])
    # Position of each token: its index in the batch, less where its request begins, plus what was computed before.
    owner = np.repeat(np.arange(len(batch)), counts)
    positions = np.arange(total, dtype=np.int64) - query_starts[owner] + starts[owner]
    tokens = np.fromiter(
        (
            token
            for item in batch
            for token in item.sequence.tokens[item.sequence.computed : item.sequence.computed + item.count]
        ),
        dtype=np.int64,
        count=total,
    )
    lengths = (starts + counts).astype(np.int32)
    shared = (torch.from_numpy(query_starts).to(device), torch.from_numpy(lengths).to(device))
    largest = (int(counts.max()), int(lengths.max()))
    visible = _visible(batch, device)
    batches = tuple(
        _paged(batch, number, books.block_size, owner, positions, shared, largest, visible, device)
        for number in range(len(books.groups))
    )
    placed = positions if batch[0].sequence.places is None else _placed(batch)
    embeds, mask = _rows(batch, query_starts, device)
    memories = tuple(item.sequence.memory for item in batch)
    return ForwardInputs(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(placed).to(device),
        batches,
        embeds,
        mask,
        None if memories[0] is None else memories,
        _codes(batch, further, device) if further else None,
    )


def _placed(batch: Items[Scheduled]) -> np.ndarray:
    """Positions on all axes, [axes, tokens]."""
    return np.concatenate([item.sequence.placed(item.count) for item in batch], axis=1)


def _visible(batch: Items[Scheduled], device: torch.device) -> torch.Tensor | None:
    """How many keys each token sees, int32 [tokens]; None where each sees just those up to itself."""
    if not any(
        start < item.sequence.computed + item.count and item.sequence.computed < stop
        for item in batch
        for start, stop in item.sequence.wholes
    ):
        return None
    return torch.from_numpy(np.concatenate([item.sequence.visible(item.count) for item in batch])).to(device)


def _codes(batch: Items[Scheduled], further: int, device: torch.device) -> torch.Tensor:
    """The codes that go with the tokens, int64 [tokens, further]; -1 with those of prompts."""
    codes = np.full((sum(item.count for item in batch), further), -1, dtype=np.int64)
    end = 0
    for item in batch:
        end += item.count
        first = item.sequence.computed - item.sequence.prompt_length  # in the output
        known = item.sequence.codes[max(0, first) : first + item.count]
        if known:
            codes[end - len(known) : end] = known
    return torch.from_numpy(codes).to(device)


def _rows(
    batch: Items[Scheduled], query_starts: np.ndarray, device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Other stages' rows among the step's tokens, [tokens, width], and where they are; None where there are none."""
    found: list[tuple[int, torch.Tensor]] = []
    for item, first in zip(batch, query_starts.tolist(), strict=False):
        sequence = item.sequence
        if sequence.rows is not None:
            pieces = sequence.rows.between(sequence.computed, sequence.computed + item.count)
            found += [(first + token - sequence.computed, rows) for token, rows in pieces]
    if not found:
        return None, None
    total, width = int(query_starts[-1]), max(rows.shape[1] for _, rows in found)
    embeds = torch.zeros(total, width, dtype=found[0][1].dtype, device=device)
    mask = torch.zeros(total, dtype=torch.bool, device=device)
    for first, rows in found:
        embeds[first : first + len(rows), : rows.shape[1]] = rows  # an ear's rows are narrower than an eye's
        mask[first : first + len(rows)] = True
    return embeds, mask


def _paged(
    batch: Items[Scheduled],
    group: int,
    block_size: int,
    owner: np.ndarray,
    positions: np.ndarray,
    shared: tuple[torch.Tensor, torch.Tensor],
    largest: tuple[int, int],
    visible: torch.Tensor | None,
    device: torch.device,
) -> PagedBatch:
    width = -(-largest[1] // block_size)
    table = np.zeros((len(batch), width), dtype=np.int32)
    for row, item in enumerate(batch):
        assert item.sequence.held is not None
        blocks = item.sequence.held.tables[group][:width]  # it may hold more, for a later step
        table[row, : len(blocks)] = blocks
    slots = table[owner, positions // block_size].astype(np.int64) * block_size + positions % block_size
    return PagedBatch(
        shared[0],
        shared[1],
        torch.from_numpy(table).to(device),
        torch.from_numpy(slots).to(device),
        *largest,
        visible,
    )
