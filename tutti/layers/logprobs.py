"""Log-probabilities of chosen tokens, their ranks and the likeliest alternatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutti.events import TokenLogprob
from tutti.layers.candidates import top_candidates

_ROWS_AT_ONCE = 64  # a prompt may have thousands of rows; this bounds the float32 copies


def gather_logprobs(logits: Tensor, targets: Sequence[int], top: int | Sequence[int]) -> list[TokenLogprob]:
    """The log-probability, the rank and the `top` likeliest tokens of each row.

    `logits`: float32 [rows, vocab], left as they are; `targets`: one token per row; `top`: for all rows or one number
    per row, -1 meaning the whole vocabulary. Equal logits share a rank; alternatives are in descending order, equal
    ones by id.
    """
    tops = [top] * len(targets) if isinstance(top, int) else list(top)
    found: list[TokenLogprob] = []
    for start in range(0, len(targets), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found += _gather(logits[part], targets[part], tops[part])
    return found


def _gather(logits: Tensor, targets: Sequence[int], tops: Sequence[int]) -> list[TokenLogprob]:
    vocab = logits.shape[1]
    tops = [vocab if top < 0 else min(top, vocab) for top in tops]
    logits = logits.float()
    index = torch.tensor(targets, device=logits.device).unsqueeze(1)
    above = torch.gt(logits, logits.gather(1, index), out=torch.empty_like(logits))
    ranks = above.sum(-1)  # in float32: exact to 2**24, and far faster than a sum of bools
    ids = _top(logits, max(tops))
    logprobs = logits.log_softmax(-1)
    rows = zip(
        targets,
        logprobs.gather(1, index).squeeze(1).tolist(),
        ranks.tolist(),
        ids.tolist(),
        logprobs.gather(1, ids).tolist(),
        tops,
        strict=True,
    )
    return [
        TokenLogprob(token, logprob, int(rank) + 1, tuple(zip(likely[:top], their[:top], strict=True)))
        for token, logprob, rank, likely, their, top in rows
    ]


def _top(logits: Tensor, count: int) -> Tensor:
    """Ids of the `count` highest of each row, [rows, count]; equal ones by id, at the last place too."""
    if count == 0:
        return logits.new_empty((len(logits), 0), dtype=torch.int64)
    if count < logits.shape[1]:
        values, ids = top_candidates(logits, count + 1)
        if bool((values[:, -2] > values[:, -1]).all()):
            return ids[:, :-1]
    return logits.sort(dim=-1, descending=True, stable=True).indices[:, :count]
