"""Changing logits before a token is chosen: masks, bad words, biases, penalties.

Each function changes float32 logits [rows, vocab] in place and touches only the rows that ask for it; all entries of
all rows that one operation concerns are gathered and scattered at once. The order is vLLM's: grammar, allowed
tokens, bad words and minimum length, bias, penalties.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tutti.layers.sampler_state import SamplerState

_MINUS_INFINITY = -0x00800000  # the bits of float32 -inf, as an int32


def shape_logits(logits: Tensor, states: Sequence[SamplerState], bitmask: Tensor | None) -> None:
    """Apply everything that comes before temperature, in place. `bitmask` as for `apply_bitmask`."""
    if bitmask is not None:
        apply_bitmask(logits, bitmask)
    rows = [(row, state) for row, state in enumerate(states) if state.shaped]
    if rows:
        _allow(logits, rows)
        _forbid(logits, rows)
        _bias(logits, rows)
        _penalize(logits, rows)


def apply_bitmask(logits: Tensor, bitmask: Tensor) -> None:
    """Set to -inf what a grammar excludes.

    `bitmask`: int32 [rows, ceil(vocab / 32)] on the host, bit i % 32 of word i // 32 tells whether token i may come;
    a row of -1 excludes nothing and costs nothing.
    """
    rows = (bitmask != -1).any(1).nonzero().flatten().tolist()
    if not rows:
        return
    vocab = logits.shape[1]
    to_sign = 31 - torch.arange(32, dtype=torch.int32, device=logits.device)
    for row, words in zip(rows, bitmask[rows].to(logits.device), strict=True):
        # Each token's bit becomes the sign, then all bits of a word: -1 allowed, 0 excluded; then 0.0 or -inf.
        bits = (
            (words.unsqueeze(1) << to_sign)
            .bitwise_right_shift_(31)
            .bitwise_not_()
            .bitwise_and_(_MINUS_INFINITY)
        )
        logits[row] += bits.view(-1)[:vocab].view(torch.float32)


def _allow(logits: Tensor, rows: list[tuple[int, SamplerState]]) -> None:
    for row, state in rows:
        if state.params.allowed_token_ids is not None:
            ids = torch.tensor(state.params.allowed_token_ids, device=logits.device)
            allowed = logits[row, ids]
            logits[row].fill_(-torch.inf)
            logits[row, ids] = allowed


def _forbid(logits: Tensor, rows: list[tuple[int, SamplerState]]) -> None:
    vocab = logits.shape[1]
    places = [row * vocab + token for row, state in rows for token in state.forbidden() if token < vocab]
    if places:
        logits.view(-1)[torch.tensor(places, device=logits.device)] = -torch.inf


def _bias(logits: Tensor, rows: list[tuple[int, SamplerState]]) -> None:
    vocab = logits.shape[1]
    biases = {
        row * vocab + token: bias
        for row, state in rows
        for token, bias in (state.params.logit_bias or {}).items()
    }
    if biases:
        places = torch.tensor(list(biases), device=logits.device)
        logits.view(-1)[places] += torch.tensor(list(biases.values()), device=logits.device)


def _penalize(logits: Tensor, rows: list[tuple[int, SamplerState]]) -> None:
    """Repetition (CTRL, Keskar et al. 2019) over prompt and output, frequency and presence over the output."""
    vocab = logits.shape[1]
    places, counts, factors = [], [], []  # factors: repetition, frequency, presence of each entry
    for row, state in rows:
        if state.counts is None or not state.counts.ids.size:
            continue
        known = state.counts.ids < vocab  # placeholders of media may lie beyond the logits
        places.append(state.counts.ids[known] + row * vocab)
        counts.append(state.counts.counts[known])
        params = state.params
        factor = np.array(
            [[params.repetition_penalty], [params.frequency_penalty], [params.presence_penalty]], np.float32
        )
        factors.append(np.broadcast_to(factor, (3, len(places[-1]))))
    if not places:
        return
    flat = logits.view(-1)
    index = torch.from_numpy(np.concatenate(places)).to(logits.device)
    count = torch.from_numpy(np.concatenate(counts)).to(logits.device)
    repetition, frequency, presence = torch.from_numpy(np.concatenate(factors, axis=1)).to(logits.device)
    values = flat[index]
    values = torch.where(values > 0, values / repetition, values * repetition)
    flat[index] = values - frequency * count - presence * (count > 0)
