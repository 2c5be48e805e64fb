"""What one session, and all of them together, may take of the server."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FRAME = 16 * 1024 * 1024  # bytes of one message; the server closes with 1009 above


@dataclass(frozen=True, slots=True)
class RealtimeLimits:
    """Sizes in bytes, times in seconds."""

    sessions: int = 512  # open at once
    items: int = 2_000  # in a conversation
    media: int = 128_000_000  # sound and pictures in a conversation
    buffered: float = 600.0  # seconds of sound that were not committed yet
    responses: int = 8  # under way at once, those apart from the conversation included
    transcriptions: int = 4  # under way at once
    calm: int = 1_000_000  # bytes that may wait for a slow client before its answers pause
    outgoing: int = 32_000_000  # bytes that may wait before the session is closed
    stall: float = 30.0  # a client that takes nothing for so long is gone
    idle: float = 900.0  # and so is one that neither sends nor is sent anything
