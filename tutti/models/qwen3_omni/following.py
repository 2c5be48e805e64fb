"""The bridge from the thinker to the talker: of what the thinker reads and writes, the rows that the talker takes.

    the user's turns | 3 tokens that open the answer | pad pad pad pad bos | the answer's words ... | eos | pad ...

Words go through the talker's projection of text, media through that of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import Chunk
from tutti.models.protocols import Rows
from tutti.models.qwen3_omni.talker import Talker
from tutti.models.qwen3_omni.turns import OPENING, Turns, read

_PADS = 4  # while the talker is told how to speak


@dataclass(frozen=True, slots=True)
class _Signs:
    """The rows [n, hidden] that stand between words."""

    begin: Tensor
    end: Tensor
    silence: Tensor


def follow(source: Checkpoint, talker: Talker) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge."""
    with torch.inference_mode():
        signs = _signs(source.tensor("thinker.model.embed_tokens.weight"), talker)
    own = talker.embed.table

    @torch.inference_mode()
    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        turns: Turns = state.get("turns") or read(state["request"], talker.marks)
        state["turns"] = turns
        first: int = state.get("read", 0)
        pieces: list[Tensor] = []
        if chunk.payload.rows is not None:
            rows: Tensor = chunk.payload.rows.to(own)
            state["read"] = first + len(rows)
            pieces += _heard(rows, first, turns, talker) + _answer(rows, first, turns, talker, signs)
        if chunk.final:
            speaks = state.get("read", 0) > turns.start + OPENING
            pieces += [signs.end] if speaks else [signs.begin, signs.end]
        if not pieces:
            return None
        last = signs.silence if chunk.final else None
        return Chunk(chunk.request, chunk.stage, Rows(torch.cat(pieces), last), chunk.final)

    return bridge


def _heard(rows: Tensor, first: int, turns: Turns, talker: Talker) -> list[Tensor]:
    """Of the thinker's `rows` from its token `first` on, those of the user's turns."""
    stop = min(first + len(rows), len(turns.user))
    places = np.flatnonzero(turns.user[first:stop])
    if not len(places):
        return []
    heard = rows[torch.from_numpy(places).to(rows.device)]
    media = torch.from_numpy(turns.media[first:stop][places]).to(rows.device)
    taken = torch.empty(len(heard), talker.config.hidden, dtype=heard.dtype, device=heard.device)
    for mask, projection in ((media, talker.hidden_projection), (~media, talker.text_projection)):
        if bool(mask.any()):
            taken[mask] = projection(heard[mask])
    return [taken]


def _answer(rows: Tensor, first: int, turns: Turns, talker: Talker, signs: _Signs) -> list[Tensor]:
    """Likewise those of the answer's turn; before its first word, the talker is told how to speak."""
    words = rows[max(0, turns.start - first) :]
    if not len(words):
        return []
    said = talker.text_projection(words)
    opening = turns.start + OPENING - max(first, turns.start)  # rows before the first word
    if not 0 <= opening < len(said):
        return [said]
    return [said[:opening], signs.begin, said[opening:]]


def _signs(table: Tensor, talker: Talker) -> _Signs:
    """From the thinker's `table` of embeddings."""
    embedded = table[torch.tensor(talker.signs)].to(talker.embed.table)
    begin, end, silence = talker.text_projection(embedded).split(1)
    return _Signs(torch.cat([silence.expand(_PADS, -1), begin]), end, silence)
