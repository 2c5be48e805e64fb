"""Rows of other stages: where they go, when a sequence may run, and what the prefix cache knows of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutti.engine.kv.hashing import HashChain, Mark
from tutti.engine.rows import MediaRows, StreamedRows
from tutti.errors import StageFailed
from tutti.models.protocols import Rows
from tutti.request import MediaInput


def medium(*spans: tuple[int, int], digest: str = "a") -> MediaInput:
    return MediaInput("image", digest, {}, spans)


def placed(rows: MediaRows | StreamedRows, start: int, stop: int) -> dict[int, float]:
    """Token -> its row's value, of the tokens from `start` to `stop`."""
    return {
        first + offset: float(row[0])
        for first, piece in rows.between(start, stop)
        for offset, row in enumerate(piece)
    }


def numbers(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32)[:, None]


@given(st.integers(0, 14), st.integers(0, 14))
def test_media_stand_at_their_spans_whatever_the_chunk(start: int, stop: int) -> None:
    rows = MediaRows({1: medium((2, 3), (8, 2)), 2: medium((5, 1))})
    rows.put(1, numbers(10, 5))
    rows.put(2, numbers(20, 1))
    everything = {2: 10, 3: 11, 4: 12, 5: 20, 8: 13, 9: 14}
    assert placed(rows, start, stop) == {t: v for t, v in everything.items() if start <= t < stop}


def test_a_prompt_runs_when_all_its_media_are_there() -> None:
    rows = MediaRows({1: medium((2, 3)), 2: medium((5, 1))})
    assert rows.available == 0
    rows.put(2, numbers(0, 1))
    assert rows.available == 0
    rows.put(1, numbers(0, 3))
    assert rows.available > 1000


def test_rows_that_do_not_fill_their_place_are_an_error() -> None:
    with pytest.raises(StageFailed, match="fills 3 tokens, but its encoder gave 2 rows"):
        MediaRows({1: medium((2, 3))}).put(1, numbers(0, 2))


def test_media_that_stand_nowhere_give_all_their_rows_and_decide_every_block() -> None:
    rows = MediaRows({1: medium(digest="b"), 3: medium((2, 1)), 4: medium(digest="c")})
    assert rows.keys == ["b", "c"]
    assert [mark.digest for mark in rows.marks] == ["a"]
    for part, count in ((4, 7), (3, 1), (1, 2)):
        assert rows.available == 0
        rows.put(part, numbers(10 * part, count))
    assert rows.available > 1000
    assert [piece[:, 0].tolist() for _, piece in rows.unplaced] == [[10, 11], [40, 41, 42, 43, 44, 45, 46]]
    assert placed(rows, 0, 9) == {2: 30}


def test_a_following_sequence_runs_as_far_as_its_rows_reach_and_then_repeats_the_last() -> None:
    rows = StreamedRows()
    assert rows.available == 0
    rows.push(Rows(numbers(0, 2)))
    assert rows.available == 2
    rows.push(Rows(numbers(2, 1), last=numbers(9, 1)))
    assert rows.available > 1000
    assert placed(rows, 1, 6) == {1: 1, 2: 2, 3: 9, 4: 9, 5: 9}
    assert placed(rows, 7, 8) == {7: 9}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_streamed_rows_are_the_same_in_any_pieces(sizes: list[int], start: int, stop: int) -> None:
    rows, total = StreamedRows(), 0
    for size in sizes:
        rows.push(Rows(numbers(total, size)))
        total += size
    rows.push(Rows(numbers(0, 0), last=numbers(99, 1)))
    assert placed(rows, start, stop) == {t: float(t) if t < total else 99.0 for t in range(start, stop)}


def chain(tokens: list[int], marks: list[Mark], pieces: int = 1) -> list[bytes]:
    made = HashChain(4, (), marks)
    for end in range(len(tokens) // pieces, len(tokens) + 1, max(1, len(tokens) // pieces)):
        made.extend(tokens[:end])
    return made.extend(tokens)


def test_blocks_with_another_picture_have_another_name_and_so_have_those_behind() -> None:
    tokens = list(range(16))
    one, other = chain(tokens, [Mark(5, 7, "a", 0)]), chain(tokens, [Mark(5, 7, "b", 0)])
    assert one[0] == other[0] == chain(tokens, [])[0]
    assert not set(one[1:]) & set(other[1:])


@given(st.integers(1, 16))
def test_a_chain_with_media_is_the_same_however_it_grows(pieces: int) -> None:
    marks = [Mark(3, 9, "a", 0), Mark(9, 10, "b", 2), Mark(13, 15, "a", 6)]
    assert chain(list(range(16)), marks, pieces) == chain(list(range(16)), marks)


def test_the_same_picture_shifted_by_a_row_is_another_block() -> None:
    tokens = [7] * 8
    assert chain(tokens, [Mark(0, 8, "a", 0)])[0] != chain(tokens, [Mark(0, 8, "a", 4)])[0]
