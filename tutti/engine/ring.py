"""A stream of bytes from one process to another through shared memory.

The bytes lie in a ring that both processes have mapped; a socket pair carries the counts: the writer says how many
bytes there are more, the reader how many it has taken. So nobody polls, the order of memory is the kernel's business,
and the end of either process is the end of the socket. The memory has no name: it goes when both are gone.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import tempfile

_COUNT = 8  # bytes of a count on the socket, little-endian


def anonymous_memory(size: int) -> int:
    """A descriptor of `size` bytes of memory that can be mapped by a process that inherits it."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("tutti")
    else:
        with tempfile.TemporaryFile() as file:  # unlinked already
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class RingWriter:
    """The end that writes. `connection` may carry other bytes between two calls of `write`."""

    def __init__(self, connection: socket.socket, memory: mmap.mmap) -> None:
        self._connection = connection
        self._memory = memoryview(memory)
        self._position = 0
        self._room = len(memory)
        self._counts = b""  # that were not heard out

    def write(self, data: memoryview) -> None:
        """Write all of `data` [bytes], waiting for room. Raises ConnectionError when the reader is gone."""
        while data:
            self._hear(wait=False)
            while not self._room:
                self._hear(wait=True)
            count = min(len(data), self._room, len(self._memory) - self._position)
            self._memory[self._position : self._position + count] = data[:count]
            self._position = (self._position + count) % len(self._memory)
            self._room -= count
            self._connection.sendall(count.to_bytes(_COUNT, "little"))
            data = data[count:]

    def _hear(self, wait: bool) -> None:
        """Take the reader's counts into account."""
        try:
            heard = self._connection.recv(4096, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not heard:
            raise ConnectionError("the reader is gone")
        counts = self._counts + heard
        whole = len(counts) - len(counts) % _COUNT
        for start in range(0, whole, _COUNT):
            self._room += int.from_bytes(counts[start : start + _COUNT], "little")
        self._counts = counts[whole:]


class RingReader:
    """The end that reads. What else `connection` carries must be taken from it when its turn is."""

    def __init__(self, connection: socket.socket, memory: mmap.mmap) -> None:
        self._connection = connection
        self._memory = memoryview(memory)
        self._position = 0
        self._ready = 0

    def read_into(self, data: memoryview) -> None:
        """Fill `data` [bytes], waiting for what is missing. Raises ConnectionError when the writer is gone."""
        while data:
            if not self._ready:
                self._ready = self._count()
            count = min(len(data), self._ready, len(self._memory) - self._position)
            data[:count] = self._memory[self._position : self._position + count]
            self._position = (self._position + count) % len(self._memory)
            self._ready -= count
            self._connection.sendall(count.to_bytes(_COUNT, "little"))
            data = data[count:]

    def _count(self) -> int:
        heard = b""
        while len(heard) < _COUNT:
            more = self._connection.recv(_COUNT - len(heard))
            if not more:
                raise ConnectionError("the writer is gone")
            heard += more
        return int.from_bytes(heard, "little")
