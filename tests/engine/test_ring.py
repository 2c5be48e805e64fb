"""Bytes and tensors through shared memory: what comes out is what went in, whatever the sizes."""

from __future__ import annotations

import mmap
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutti.engine.line import Line
from tutti.engine.parcels import Emitted
from tutti.engine.ring import RingReader, RingWriter, anonymous_memory
from tutti.engine.stage import Ending, TokenOutput
from tutti.errors import StageFailed
from tutti.graph import Chunk
from tutti.models.protocols import Sound


@contextmanager
def ring(size: int) -> Iterator[tuple[RingWriter, RingReader, tuple[socket.socket, socket.socket]]]:
    """Both ends of a ring, mapped apart as two processes do."""
    descriptor = anonymous_memory(size)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield (
            RingWriter(ours, mmap.mmap(descriptor, 0)),
            RingReader(theirs, mmap.mmap(descriptor, 0)),
            (ours, theirs),
        )
    os.close(descriptor)


@given(
    size=st.integers(1, 50),
    writes=st.lists(st.binary(max_size=120), max_size=20),
    reads=st.lists(st.integers(0, 90), max_size=30),
)
def test_the_bytes_read_are_the_bytes_written(size: int, writes: list[bytes], reads: list[int]) -> None:
    sent = b"".join(writes)
    with ring(size) as (writer, reader, _):
        writing = threading.Thread(target=lambda: [writer.write(memoryview(one)) for one in writes])
        writing.start()
        received = b""
        for count in [*reads, len(sent)]:
            piece = bytearray(min(count, len(sent) - len(received)))
            reader.read_into(memoryview(piece))
            received += piece
        writing.join(10)
        assert not writing.is_alive()
    assert received == sent


def test_a_writer_waits_for_room_and_learns_that_the_reader_is_gone() -> None:
    with ring(10) as (writer, reader, (_, theirs)):
        writer.write(memoryview(b"0123456789"))
        waiting = threading.Thread(target=writer.write, args=(memoryview(b"x"),))
        waiting.start()
        piece = bytearray(3)
        reader.read_into(memoryview(piece))
        waiting.join(10)
        assert bytes(piece) == b"012" and not waiting.is_alive()
        theirs.close()
        with pytest.raises(ConnectionError):
            writer.write(memoryview(bytes(20)))


def test_a_reader_learns_that_the_writer_is_gone() -> None:
    with ring(10) as (writer, reader, (ours, _)):
        writer.write(memoryview(b"012"))
        ours.close()
        with pytest.raises(ConnectionError):
            reader.read_into(memoryview(bytearray(4)))


@pytest.fixture
def line() -> Iterator[tuple[Line, Line]]:
    near, descriptors = Line.make()
    far = Line.of_descriptors(descriptors)
    yield near, far
    for one in (near, far):
        one.close()
    assert near.receive() is None and far.receive() is None


ENDING = Ending("stop", None, 1, 0, 2, 0.1, 0.2, 0.3)
PAYLOADS = {
    "tokens": TokenOutput((1, 2), ending=ENDING, rows=torch.arange(12.0).view(3, 4)),
    "half precision": TokenOutput((), rows=torch.randn(2, 5).to(torch.bfloat16)),
    "a part of a larger tensor": torch.randn(6, 7)[1:5, 2:4],
    "more than the ring holds": torch.randn(3, 1_000_000),
    "nothing": torch.empty(0, 8),
    "sound": Sound(torch.rand(100), 24_000),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_a_stage_emits_arrives_as_it_was(line: tuple[Line, Line], name: str) -> None:
    near, far = line
    sent = Chunk("r", "s", PAYLOADS[name], final=True, part=3)
    near.send(Emitted.of(sent))
    message = far.receive()
    assert isinstance(message, Emitted)
    got = message.chunk
    assert (got.request, got.stage, got.final, got.part) == ("r", "s", True, 3)
    assert type(got.payload) is type(sent.payload)
    pairs = [(sent.payload, got.payload)]
    if isinstance(sent.payload, TokenOutput):
        assert (got.payload.tokens, got.payload.ending) == (sent.payload.tokens, sent.payload.ending)
        pairs = [(sent.payload.rows, got.payload.rows)]
    if isinstance(sent.payload, Sound):
        assert got.payload.rate == sent.payload.rate
        pairs = [(sent.payload.samples, got.payload.samples)]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_both_ends_may_send_more_than_the_rings_hold_at_once(line: tuple[Line, Line]) -> None:
    near, far = line
    large = torch.randn(3_000_000)
    for _ in range(3):
        near.send(Emitted.of(Chunk("r", "s", large)))
        far.send(Emitted.of(Chunk("r", "s", large)))
    found: list[object] = []
    reading = threading.Thread(target=lambda: found.extend(near.receive() for _ in range(3)))
    reading.start()
    for _ in range(3):
        message = far.receive()
        assert isinstance(message, Emitted) and torch.equal(message.chunk.payload, large)
    reading.join(20)
    assert [torch.equal(one.chunk.payload, large) for one in found if isinstance(one, Emitted)] == [True] * 3


def test_a_payload_of_another_kind_is_refused_where_it_is_sent() -> None:
    with pytest.raises(StageFailed, match="stage s emits a dict, which cannot cross"):
        Emitted.of(Chunk("r", "s", {"a": 1}))
