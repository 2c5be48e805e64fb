"""The stage of one pass: long items in pieces, equal ones once, and nothing left when somebody leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.models import checkpoints
from tutti.engine.once import Once
from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import BuildOptions, Chunk, resolve
from tutti.models.registry import find_graph
from tutti.request import Array, MediaInput, Request

BUDGET = 4


class Doubler:
    """Numbers, doubled one by one; a zero is too much for it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def take(self, part: MediaInput) -> Tensor:
        return torch.tensor(list(part.arrays["bytes"].data))

    def split(self, item: Tensor) -> tuple[Tensor, ...]:
        return item.split(1)

    def join(self, payloads: list[Tensor]) -> Tensor:
        return torch.cat(payloads)

    def cost(self, item: Tensor) -> int:
        return len(item)

    def bucket(self, item: Tensor) -> None:
        return None

    def run(self, items: list[Tensor]) -> list[Tensor]:
        self.batches.append([int(item) for item in items])
        if not all(items):
            raise ValueError("zero")
        return [2 * item for item in items]


def stage(keep_bytes: int = 0) -> tuple[Once, Doubler]:
    model = Doubler()
    return Once("double", model, budget=BUDGET, inputs=("image",), keep_bytes=keep_bytes), model


def request(name: str, *values: bytes) -> Request:
    parts = tuple(
        MediaInput("image", value.hex(), {"bytes": Array("|u1", (len(value),), value)}, ())
        for value in values
    )
    return Request(id=name, parts=parts)


def run(once: Once) -> list[Chunk]:
    """Everything that is waiting."""
    chunks: list[Chunk] = []
    while batch := once.plan():
        chunks += once.step(batch)
    return chunks


def said(chunks: list[Chunk]) -> dict[tuple[str, int | None], list[int]]:
    return {(chunk.request, chunk.part): chunk.payload.tolist() for chunk in chunks}


@given(st.lists(st.binary(min_size=1, max_size=11).filter(all), min_size=1, max_size=6))
def test_whatever_is_asked_comes_whole_and_no_step_costs_more_than_the_budget(values: list[bytes]) -> None:
    once, model = stage()
    for number, value in enumerate(values):
        once.admit(request(str(number), value))
    chunks = run(once)
    assert said(chunks) == {(str(n), 0): [2 * x for x in value] for n, value in enumerate(values)}
    assert all(chunk.final for chunk in chunks) and len(chunks) == len(values)
    assert max(map(len, model.batches)) <= BUDGET
    assert sum(map(len, model.batches)) == sum(map(len, set(values)))  # equal ones once
    assert once.waiting == 0 and once.urgency() is None


def test_who_asks_for_what_is_under_way_waits_for_it_and_nothing_is_computed_twice() -> None:
    once, model = stage()
    once.admit(request("a", b"123456"))
    assert once.step(once.plan()) == []  # four of six
    once.admit(request("b", b"123456"))
    once.admit(request("c", b"99", b"123456"))
    found = said(run(once))
    assert found["a", 0] == found["b", 0] == found["c", 1] == [2 * x for x in b"123456"]
    assert sum(map(len, model.batches)) == 8 and once.items == 2


def test_a_piece_that_fails_fails_each_who_waits_for_it_and_nobody_else() -> None:
    once, _ = stage()
    once.admit(request("a", b"12\x003"))
    once.admit(request("b", b"12\x003"))
    once.admit(request("c", b"45"))
    chunks: list[Chunk] = []
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="zero"):
            once.step(once.plan())
        failed = []
        for piece in once.plan():  # as the loop does it: each alone
            try:
                chunks += once.step([piece])
            except ValueError:
                failed.append(piece.request_id)
        assert failed == [name]
        once.release(name)
    assert said(chunks + run(once)) == {("c", 0): [2 * x for x in b"45"]}


def test_who_leaves_takes_nothing_from_others_and_leaves_nothing() -> None:
    once, model = stage()
    once.admit(request("a", b"123456", b"7"))
    once.admit(request("b", b"123456"))
    once.step(once.plan())
    once.release("a")
    assert once.waiting == 1
    once.release("b")
    assert once.waiting == 0 and once.plan() == [] and once.urgency() is None
    assert len(model.batches) == 1


def test_what_was_kept_is_known_at_once() -> None:
    once, model = stage(keep_bytes=1_000)
    once.admit(request("a", b"123456"))
    run(once)
    computed = len(model.batches)
    once.admit(request("b", b"123456"))
    assert said(once.step(once.plan())) == {("b", 0): [2 * x for x in b"123456"]}
    assert len(model.batches) == computed


@pytest.fixture(scope="module")
def build() -> Callable[[str], Any]:
    checkpoint = open_checkpoint(str(checkpoints.cached("qwen2_5_omni")))
    graph = find_graph(checkpoint.config)
    return lambda name: resolve(graph.stage(name).build)(checkpoint, BuildOptions())


def test_a_recording_of_any_length_is_heard_in_pieces_as_it_is_as_a_whole(
    build: Callable[[str], Any],
) -> None:
    ears = build("audio")
    spectrogram = torch.randn(ears.bands, 170, generator=torch.Generator().manual_seed(1))
    for length in (2, 39, 40, 41, 79, 80, 81, 123, 170):
        item = spectrogram[:, :length]
        pieces = ears.split(item)
        with torch.inference_mode():
            (whole,) = ears.run([item])
            together = ears.join(ears.run(list(pieces)))
            apart = ears.join([ears.run([piece])[0] for piece in pieces])
        torch.testing.assert_close(together, whole)
        torch.testing.assert_close(apart, whole)


def test_a_videos_frames_are_seen_one_by_one_as_they_are_together(build: Callable[[str], Any]) -> None:
    from tutti.models.qwen2_vl.vision import patches

    eyes = build("vision")
    frames = torch.randint(0, 255, (6, 48, 32, 3), generator=torch.Generator().manual_seed(2))
    item = patches(frames.to(torch.uint8), eyes.pixels)
    pieces = eyes.split(item)
    assert len(pieces) == 3
    with torch.inference_mode():
        (whole,) = eyes.run([item])
        torch.testing.assert_close(eyes.join([eyes.run([piece])[0] for piece in pieces]), whole)
