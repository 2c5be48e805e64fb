"""Whisper's rules for what may come next: suppressed tokens, and times that come in pairs and never go back.

A segment is `time text time`, and where one ends another begins at the same or a later time:

    <0.00> text <2.40> <2.40> more text <5.10> <5.80> ...

The rules are those of the paper's decoding (Radford et al. 2022, section 4.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutti.models.whisper.tokens import SpeechTokens

_NEVER = float("-inf")


def shape_logits(
    special: SpeechTokens, logits: Tensor, tokens: Sequence[Sequence[int]], prompts: Sequence[int]
) -> Tensor:
    """See `models.protocols.ShapesLogits`; changes `logits` in place. Who does not ask for words is free."""
    for row, known, length in zip(logits, tokens, prompts, strict=True):
        if not special.whole(known[:length]):
            continue
        output = known[length:]
        row[list(special.suppressed)] = _NEVER
        if not output:
            row[list(special.suppressed_first)] = _NEVER
        if special.wants_times(known[:length]):
            _order_times(special, row, output)
    return logits


def _order_times(special: SpeechTokens, row: Tensor, output: Sequence[int]) -> None:
    """Forbid in `row` [vocab] what would break the order of times."""
    first = special.first_time
    row[special.no_timestamps] = _NEVER
    is_time = [token >= first for token in output[-2:]]
    if not output:
        row[:first] = _NEVER
        if special.latest_first is not None:
            row[first + special.latest_first + 1 :] = _NEVER
    elif is_time[-1]:
        if all(is_time):
            row[first:] = _NEVER  # the segment has begun: its text follows
        else:
            row[: special.end] = _NEVER  # the segment has ended: another begins, or nothing more comes
    last = next((token for token in reversed(output) if token >= first), None)
    if last is not None:
        again = is_time == [False, True]  # the time at which a segment ended may begin the next
        row[first : last if again else last + 1] = _NEVER
    # A time comes if all times together are likelier than any single word.
    if torch.logsumexp(row[first:], 0) > row[:first].max():
        row[:first] = _NEVER
