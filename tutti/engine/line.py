"""The way between two loops in two processes: messages both ways, tensors through shared memory.

Each direction is a socket pair and a ring of memory (`engine.ring`). A thread sends, so that no loop ever waits for the
other process; who receives is another thread's matter. The line ends when either process does.
"""

from __future__ import annotations

import mmap
import os
import socket
import threading
from contextlib import suppress
from queue import SimpleQueue

from torch import Tensor

from tutti.engine.frames import prefixed, receive
from tutti.engine.parcels import Decoder, Message, encode, memory_of
from tutti.engine.ring import RingReader, RingWriter, anonymous_memory

RING_BYTES = 8_000_000  # of each direction; what is larger goes through in pieces


class Line:
    """One end of a line."""

    def __init__(
        self, outward: tuple[socket.socket, mmap.mmap], inward: tuple[socket.socket, mmap.mmap]
    ) -> None:
        self._outward, self._inward = outward[0], inward[0]
        self._writer, self._reader = RingWriter(*outward), RingReader(*inward)
        self._decoder = Decoder()
        self._outbox: SimpleQueue[tuple[bytes, list[Tensor]] | None] = SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, name="line", daemon=True)
        self._sender.start()

    @classmethod
    def of_descriptors(cls, descriptors: tuple[int, ...]) -> Line:
        """The end that was inherited as `descriptors`."""
        out, out_memory, into, into_memory = descriptors
        return cls(
            (socket.socket(fileno=out), _mapped(out_memory)),
            (socket.socket(fileno=into), _mapped(into_memory)),
        )

    @classmethod
    def make(cls) -> tuple[Line, tuple[int, ...]]:
        """A new line: our end, and the descriptors of the other one, for a child process; close them after."""
        there, back = socket.socketpair(), socket.socketpair()
        memories = anonymous_memory(RING_BYTES), anonymous_memory(RING_BYTES)
        theirs = (back[1].detach(), os.dup(memories[1]), there[1].detach(), os.dup(memories[0]))
        return cls((there[0], _mapped(memories[0])), (back[0], _mapped(memories[1]))), theirs

    def send(self, message: Message) -> None:
        """Have `message` sent; never waits. What cannot arrive any more is dropped."""
        body, tensors = encode(message)
        self._outbox.put((prefixed(body), tensors))

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the other end is gone: then this one is, too."""
        try:
            body = receive(self._inward)
            if body is not None:
                message = self._decoder.decode(body)
                for tensor in self._decoder.tensors:
                    self._reader.read_into(memory_of(tensor))
                return message
        except ConnectionError:
            pass
        self.close()
        self._end()
        self._sender.join()
        self._outward.close()
        self._inward.close()
        return None

    def close(self) -> None:
        """End the line, once what was sent before is on its way. Who receives must go on until it says None."""
        self._outbox.put(None)

    def join(self) -> None:
        """Wait until everything is on its way, after `close`."""
        self._sender.join()

    def _send_all(self) -> None:
        try:
            while (sending := self._outbox.get()) is not None:
                frame, tensors = sending
                self._outward.sendall(frame)
                for tensor in tensors:
                    self._writer.write(memory_of(tensor))
        except OSError:
            pass  # the other end is gone; whoever receives is told
        self._end()

    def _end(self) -> None:
        """Wake whoever waits at either end."""
        for connection in (self._outward, self._inward):
            with suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RDWR)


def _mapped(descriptor: int) -> mmap.mmap:
    memory = mmap.mmap(descriptor, 0)
    os.close(descriptor)
    return memory
