"""When each token was said: by what the decoder looked at in the recording while it wrote it.

Some heads of its attention follow the voice (generation_config.json names them, `alignment_heads`). Their weights,
smoothed and averaged, are a picture of tokens by rows of the encoder; the cheapest path through it that never goes back
(dynamic time warping, Sakoe and Chiba 1978) says at which row each token begins. The way of OpenAI's and transformers'
word timestamps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.errors import StageFailed
from tutti.events import TokenTimes
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.processor.speech import RATE, frames_of
from tutti.models.whisper.media import UNIT
from tutti.models.whisper.tokens import alignment_heads
from tutti.request import MediaInput

_LEAST = 1e-10  # so that a row at which no token looks more than another counts nothing


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What the decoder looked at: `weights` float32 [tokens, heads * rows] of all tokens but the last.

    `rows` of each head's are of the recording, the others of the silence behind it.
    """

    request: str
    weights: Tensor
    rows: int


class Aligner:
    """Implements `models.protocols.OnceModel`: looks to times."""

    def __init__(self, heads: int, filter_width: int) -> None:
        """`filter_width` rows are smoothed by their median; odd."""
        self.heads = heads
        self.filter_width = filter_width

    def take(self, part: Any) -> Any:
        """Looks come by an edge only."""
        raise StageFailed("the aligner takes no part of a request")

    def cost(self, item: Looks) -> int:
        """See `OnceModel.cost`: tokens."""
        return len(item.weights)

    def bucket(self, item: Looks) -> Hashable:
        """See `OnceModel.bucket`: one at a time."""
        return item

    def run(self, items: list[Looks]) -> list[TokenTimes]:
        """The times of every item's tokens; the last token, which ends the window, is said when the one before is."""
        return [TokenTimes(item.request, self._times(item)) for item in items]

    def _times(self, item: Looks) -> tuple[float, ...]:
        tokens = len(item.weights)
        if not tokens:
            return (0.0,)
        weights = item.weights.view(tokens, self.heads, -1)[:, :, : item.rows].permute(1, 0, 2)
        spread = weights.std(1, keepdim=True, unbiased=False).clamp(min=_LEAST)
        normed = (weights - weights.mean(1, keepdim=True)) / spread
        picture = smoothed(normed, self.filter_width).mean(0)
        begins = path(-picture.double().cpu().numpy()) * (UNIT / RATE)
        return (*begins.tolist(), float(begins[-1]))


def smoothed(values: Tensor, width: int) -> Tensor:
    """The median of `width` neighbours in the last dimension, mirrored at its ends."""
    side = width // 2
    if values.shape[-1] <= side:
        return values
    return F.pad(values, (side, side), mode="reflect").unfold(-1, width, 1).sort(dim=-1)[0][..., side]


def path(costs: np.ndarray) -> np.ndarray:
    """The column [rows] at which each row of the cheapest path through `costs` float64 [rows, columns] begins.

    The path goes from one corner to the other by steps to the right, down, or both. All cells of an antidiagonal are
    computed together.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    step = np.full((rows + 1, columns + 1), -1, np.int8)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        best = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        step[i, j] = best
        total[i, j] = costs[i - 1, j - 1] + np.choose(best, (both, down, right)).astype(np.float64)
    step[0, :], step[:, 0] = 2, 1
    begins = np.zeros(rows, np.int64)
    i, j = rows, columns
    while i > 0:
        begins[i - 1] = j - 1  # the last one written is the leftmost
        move = step[i, j]
        i, j = i - (move != 2), j - (move != 1)
    return begins


def watch(source: Checkpoint, aligner: Aligner) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge from the decoder: what it looked at while it wrote, once it has ended."""

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        seen: list[Tensor] = state.setdefault("seen", [])
        if chunk.payload.rows is not None:
            seen.append(chunk.payload.rows)
        state["tokens"] = state.get("tokens", 0) + len(chunk.payload.tokens)
        if not chunk.final:
            return None
        written = max(0, state["tokens"] - 1)  # nothing is computed of the last one
        weights = torch.cat(seen)[-written:] if written else torch.zeros(0, 1)
        (recording,) = (part for part in state["request"].parts if isinstance(part, MediaInput))
        rows = frames_of(recording.arrays["samples"].shape[0]) // 2
        return Chunk(chunk.request, chunk.stage, Looks(chunk.request, weights, rows), final=True)

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> Aligner:
    """The aligner; it has no weights."""
    heads = alignment_heads(checkpoint.path, checkpoint.config)
    return Aligner(len(heads), int(checkpoint.config.get("median_filter_width") or 7))
