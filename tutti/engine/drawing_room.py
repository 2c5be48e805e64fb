"""The room that a memory plan gives a stage of denoising: bytes become tokens of a step, and pictures under way."""

from __future__ import annotations

from dataclasses import dataclass

from tutti.graph import StageShape

_PICTURE = 2 * 4608  # tokens in a step of a picture of 1024 x 1024 pixels, with guidance
_LEAST = 1024  # tokens a step must have: a picture of 512 x 512 pixels in patches of 16
# Bytes of such a picture's latents and velocity, and of what is kept of one that it begins from.
_LATENTS = 4 * 128 * 128 * 16 * 4
_CACHES = 4  # pictures that draw with a feature cache at once, where there is room
_TURNS = 16  # pictures of a step, where a picture has a largest size
_STEP = {
    "cpu": 1024,
    "cuda": 65536,
}  # tokens in a step of several: enough to fill the machine, few enough to be short


@dataclass(frozen=True, slots=True)
class DrawingRoom:
    """What a denoiser may take: `tokens` in a step of several requests, `largest` in a step of one.

    `requests` is how many there is room for between two steps; `features` and `adapters` are bytes of theirs, `kept`
    the bytes of one between two steps, `token` of one token in a step, `picture` of a large one's feature cache.
    """

    tokens: int
    largest: int
    requests: int
    features: int
    adapters: int
    kept: int
    token: int
    picture: int


def drawing_room(
    denoiser: StageShape,
    room: int,
    *,
    item: int,
    token: int,
    requests: int,
    adapters: int,
    device: str,
    most: int | None = None,
) -> DrawingRoom:
    """How `room` bytes are used by a denoiser whose numbers have `item` bytes and whose tokens take `token` of them.

    At most so many `requests` are under way, and at most so many tokens in a step of several (None: what is good).
    """
    picture = denoiser.rows or _PICTURE
    least = min(_LEAST, picture)
    kept = denoiser.memory * item + _LATENTS * picture // _PICTURE
    count = max(1, min(requests, (room - least * token) // 2 // kept))
    one = 2 * (denoiser.usual or picture) * denoiser.hidden * item
    features = max(0, min(_CACHES * one, (room - count * kept - least * token) // 4))
    largest = max(least, (room - count * kept - features) // token)
    most = most or _STEP.get(device, 8192)
    tokens = min(most, _TURNS * denoiser.rows or most, largest)
    return DrawingRoom(tokens, largest, count, features, adapters, kept, token, one)
