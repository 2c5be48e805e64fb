"""Messages over a stream socket: a 4-byte little-endian length, then msgpack.

A socket pair needs no name and no port, and its end tells of the other side's death at once.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

_LENGTH = 4


def pack(message: msgspec.Struct) -> bytes:
    """The frame of a message."""
    return prefixed(msgspec.msgpack.encode(message))


def prefixed(body: bytes) -> bytes:
    """The frame of an encoded message."""
    return len(body).to_bytes(_LENGTH, "little") + body


def receive(connection: socket.socket) -> bytes | None:
    """The next frame's body, blocking; None when the other side is gone."""
    head = _exactly(connection, _LENGTH)
    return None if head is None else _exactly(connection, int.from_bytes(head, "little"))


async def read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    """The next message. Raises asyncio.IncompleteReadError when the other side is gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH), "little")
    return decoder.decode(await reader.readexactly(length))


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    body = bytearray(count)
    view = memoryview(body)
    done = 0
    while done < count:
        try:
            received = connection.recv_into(view[done:])
        except ConnectionError:
            return None
        if not received:
            return None
        done += received
    return bytes(body)
