"""Which tokens may be drawn (top-k, top-p, min-p), and drawing one of them.

Every row is worked out from its own numbers alone. A draw takes one uniform number and inverts the cumulative
distribution in the order of token ids. "Descending order" is by logit, equal logits by id, so the kept set is exact
and does not depend on how it was found:

    descending order   |-- kept by top-p --|-- kept by top-k and min-p --|------- the rest -------|
    looked at          |<---------------- prefix of 64, else 256, 1024, all -------------------->|

A prefix suffices when it provably contains the kept set and its mass is known; rows for which it does not go on to
the next width. The last width sorts values alone and compares the row with the threshold that results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_WIDTHS = (64, 256, 1024)
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of some rows, on the logits' device; off: `top_k` = vocabulary, `top_p` = 1, `min_p` = 0."""

    top_k: Tensor  # int64 [rows]
    top_p: Tensor  # float64 [rows]
    min_p: Tensor  # float64 [rows]

    def __getitem__(self, rows: Tensor) -> Filters:
        return Filters(self.top_k[rows], self.top_p[rows], self.min_p[rows])


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a column of each row in proportion to its weight.

    `weights`: float32 [rows, columns], not negative, some positive in every row; `uniforms`: float64 [rows] in
    [0, 1). Returns int64 [rows]. First finds the block of columns, then the column in it, so that only block sums are
    accumulated in float64.
    """
    blocks = _blocks(weights, 0.0)
    sums = blocks.sum(-1).double()
    block, rest = _invert(sums, uniforms * sums.sum(-1))
    inside = blocks[torch.arange(len(block), device=block.device), block].double()
    return block * _BLOCK + _invert(inside, rest)[0]


def draw_filtered(logits: Tensor, filters: Filters, uniforms: Tensor) -> Tensor:
    """Draw a token of each row after top-k, min-p and top-p.

    `logits`: float32 [rows, vocab], temperature applied, at least one finite in every row and none NaN or +inf;
    `uniforms`: float64 [rows]. Returns int64 [rows]. Top-k keeps all logits equal to the k-th; min-p keeps
    probabilities of at least `min_p` times the highest (Nguyen et al. 2024); top-p keeps the smallest part, of what
    those two leave, whose share is at least `top_p` (Holtzman et al. 2019).
    """
    vocab = logits.shape[1]
    tokens = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    total = torch.ones_like(uniforms)
    if bool(((filters.top_k == vocab) & (filters.min_p == 0)).any()):  # nobody else needs it
        total = 1.0 / logits.softmax(-1).amax(-1).double()
    rows = torch.arange(len(logits), device=logits.device)
    smallest = int(filters.top_k.min())
    for width in _WIDTHS:
        if width >= vocab or not len(rows):
            break
        if width <= smallest < vocab and not bool((filters.min_p > 0).any()):
            continue  # sure to be too narrow for every row
        some = logits if len(rows) == len(logits) else logits[rows]
        values, ids = top_candidates(some, width)
        count, complete = kept(values, total[rows], filters[rows], vocab)
        drawn = _draw_prefix(values, ids, count, uniforms[rows])
        tokens[rows[complete]] = drawn[complete]
        rows = rows[~complete]
    for row in rows:  # one at a time: these are few, and a row's float64 copies stay in the cache
        one = row.unsqueeze(0)
        weights = _kept_of_all(logits[one], total[one], filters[one]).softmax(-1)
        tokens[one] = draw(weights, uniforms[one])
    return tokens


def kept(values: Tensor, total: Tensor, filters: Filters, vocab: int) -> tuple[Tensor, Tensor]:
    """How many of the descending logits `values` [rows, width] the filters keep, and whether that is certain.

    `total`: float64 [rows], the mass of the whole row in units of its likeliest token's, read for rows with neither
    top-k nor min-p. Returns int64 [rows], at least
    1, and bool [rows]: False where the kept set may reach beyond the prefix.
    """
    width = values.shape[1]
    weights = (values - values[:, :1]).double().exp()
    mass = weights.cumsum(-1)
    kth = values.gather(1, (filters.top_k.clamp(max=width) - 1).unsqueeze(1))
    limited = (filters.top_k < vocab) | (filters.min_p > 0)
    within = torch.where(filters.top_k < vocab, (values >= kth).count_nonzero(-1), width)
    within = torch.minimum(within, (weights >= filters.min_p.unsqueeze(1)).count_nonzero(-1))
    within = torch.minimum(within, (values > -torch.inf).count_nonzero(-1))
    left = mass.gather(1, within.unsqueeze(1) - 1).squeeze(1)
    if width < vocab:
        left = torch.where(limited, left, total)
    nucleus = (mass - weights < (filters.top_p * left).unsqueeze(1)).count_nonzero(-1).clamp(min=1)
    count = torch.where(filters.top_p < 1.0, torch.minimum(within, nucleus), within)
    if width == vocab:
        return count, torch.ones_like(limited)
    # What top-k and min-p leave is known if something in the prefix falls short of it; a boundary among equal logits
    # is known if all of them are in the prefix.
    boundary = values.gather(1, count.unsqueeze(1) - 1).squeeze(1)
    return count, (~limited | (within < width)) & (boundary > values[:, -1])


def top_candidates(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` highest logits of each row in descending order and their ids, both [rows, width].

    Of logits equal to the last of these, which ones are included is not defined. The `width` highest values lie in
    the `width` blocks of columns whose maxima are highest, so only those are searched.
    """
    blocks = _blocks(logits, -torch.inf)
    if blocks.shape[1] <= 2 * width:
        values, ids = logits.topk(width)
    else:
        block = blocks.amax(-1).topk(width, sorted=False).indices
        inside = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, _BLOCK)).flatten(1)
        values, place = inside.topk(width)
        ids = block.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK
    ids, order = ids.sort(-1)
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _blocks(rows: Tensor, padding: float) -> Tensor:
    """`rows` [rows, columns] as [rows, blocks, 128], padded at the end."""
    missing = -rows.shape[1] % _BLOCK
    if missing:
        rows = torch.nn.functional.pad(rows, (0, missing), value=padding)
    return rows.view(len(rows), -1, _BLOCK)


def _invert(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first column at which the running sum of `weights` [rows, columns] exceeds `target` [rows].

    Returns it and what of the target lies within it. The target is kept below the row's sum, which rounding may
    otherwise reach; a column of no weight is never returned.
    """
    sums = weights.cumsum(-1)
    target = torch.minimum(target, torch.nextafter(sums[:, -1], torch.zeros_like(target))).clamp(min=0.0)
    column = torch.searchsorted(sums, target.unsqueeze(1), right=True)
    before = (sums - weights).gather(1, column).squeeze(1)
    return column.squeeze(1), target - before


def _draw_prefix(values: Tensor, ids: Tensor, count: Tensor, uniforms: Tensor) -> Tensor:
    """Draw among the first `count` of the descending candidates, in the order of their ids."""
    inside = torch.arange(values.shape[1], device=values.device) < count.unsqueeze(1)
    weights = (values - values[:, :1]).double().exp() * inside
    ids, order = ids.sort(-1)
    weights = weights.gather(1, order)
    column, _ = _invert(weights, uniforms * weights.sum(-1))
    return ids.gather(1, column.unsqueeze(1)).squeeze(1)


def _kept_of_all(logits: Tensor, total: Tensor, filters: Filters) -> Tensor:
    """One row's logits [1, vocab] with what the filters drop set to -inf, by its sorted values."""
    values = _descending(logits)
    count, _ = kept(values, total, filters, logits.shape[1])
    threshold = values.gather(1, count.unsqueeze(1) - 1)
    above, equal = logits > threshold, logits == threshold
    spare = count - above.count_nonzero(-1)
    keep = above | (equal & (equal.cumsum(-1) <= spare.unsqueeze(1)))
    return logits.masked_fill(~keep, -torch.inf)


def _descending(logits: Tensor) -> Tensor:
    """Each row's values, highest first. On the host numpy's vectorized sort is some thirty times torch's speed."""
    if logits.device.type == "cpu":
        return torch.from_numpy(np.sort(logits.numpy(), axis=-1)[:, ::-1].copy())
    return logits.sort(-1, descending=True).values
