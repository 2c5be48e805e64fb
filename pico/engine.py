"""What an examination asks an engine: prompts, with a recording or a picture if need be, and their greedy answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt with one placeholder for each medium, a picture's before a recording's.

    `sound` float32 at 16 kHz, `picture` uint8 [height, width, 3].
    """

    text: str
    sound: NDArray[np.float32] | None = None
    picture: NDArray[np.uint8] | None = None


class Engine(Protocol):
    """Whatever answers: greedy continuations of prompts, at most `longest` tokens, without the end mark."""

    def answer(self, prompts: Sequence[Prompt], longest: int) -> list[str]: ...
