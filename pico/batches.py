"""Training batches: chats of similar length together, padded on the right, a fixed number of tokens each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from tokenizers import Tokenizer

from .requests import SIGN
from .tokenizer import END_OF_TEXT, encode_chats
from .values import Chat
from .world import stream

POOL_CHATS = 4096
BATCH_TOKENS = 4096
LONGEST = 512
DOCUMENT_SHARE = 0.02
Example = tuple[list[int], list[bool]]


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids` [rows, length] int64; `targets` [rows, length] int64: the next token, or -100 where nothing is learned."""

    ids: torch.Tensor
    targets: torch.Tensor


def batches(tokenizer: Tokenizer, seed: int, start_pool: int = 0) -> Iterator[tuple[int, Batch]]:
    """Endless batches with the number of the pool of chats each comes from, from which a resumed run goes on."""
    pool = start_pool
    while True:
        rng = Random(f"pico|{seed}|pool|{pool}")
        chats = list(islice(stream(f"{seed}|{pool}", "train"), POOL_CHATS))
        examples = [e for e in encode_chats(tokenizer, chats) if len(e[0]) <= LONGEST]
        examples += _documents(tokenizer, rng, chats)
        groups = _groups(sorted(examples, key=lambda e: len(e[0])))
        rng.shuffle(groups)
        for group in groups:
            yield pool, _batch(group)
        pool += 1


def _documents(tokenizer: Tokenizer, rng: Random, chats: list[Chat]) -> list[Example]:
    """A few plain texts: statements of the world in a row, so that raw completion has something to go by."""
    end = tokenizer.encode(END_OF_TEXT).ids[0]
    examples: list[Example] = []
    told = [chat for chat in chats if SIGN not in chat.answer]
    for _ in range(int(len(chats) * DOCUMENT_SHARE)):
        chosen = rng.choices(told, k=rng.randint(1, 6))
        text = ("" if chosen[0].lang == "zh" else " ").join(
            c.answer for c in chosen if c.lang == chosen[0].lang
        )
        ids = [*tokenizer.encode(text).ids, end]
        examples.append((ids, [True] * len(ids)))
    return examples


def _groups(examples: list[Example]) -> list[list[Example]]:
    groups: list[list[Example]] = [[]]
    for example in examples:  # ascending, so the newest is the longest of its group
        if (len(groups[-1]) + 1) * _padded(len(example[0])) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(example)
    return groups


def _padded(length: int) -> int:
    """The length up to the next multiple of 8: few shapes, since oneDNN makes and keeps code for each one."""
    return -(-length // 8) * 8


def _batch(group: list[Example]) -> Batch:
    length = _padded(max(len(ids) for ids, _ in group))
    rows = max(len(group), BATCH_TOKENS // length)  # the surplus rows are empty
    ids = torch.zeros(rows, length, dtype=torch.long)
    targets = torch.full((rows, length), -100, dtype=torch.long)
    for row, (tokens, learned) in enumerate(group):
        sequence = torch.tensor(tokens)
        ids[row, : len(tokens)] = sequence
        targets[row, : len(tokens) - 1] = torch.where(torch.tensor(learned[1:]), sequence[1:], -100)
    return Batch(ids, targets)
