"""What of a prompt the talker hears: the user's turns, and the turn of the assistant that is about to be written.

<|im_start|>system ... <|im_end|> <|im_start|>user ... <|im_end|> <|im_start|>assistant . the answer ...
                                  |------- heard -------------|   |-- start              heard --------|
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace

from tutti.errors import InvalidRequest
from tutti.models.reading import require
from tutti.request import MediaInput, Request, Tokens

OPENING = 3  # tokens that open the assistant's turn, before its first word


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that tell turns apart, and those that stand for media."""

    start: int
    user: int
    assistant: int
    media: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Turns:
    """A prompt: which of its tokens are the user's and which stand for media (bool [tokens]), where the answer's turn
    begins."""

    user: np.ndarray
    media: np.ndarray
    start: int

    @property
    def heard(self) -> int:
        """How many tokens are the user's."""
        return int(self.user.sum())

    def moved(self, media: MediaInput) -> MediaInput:
        """The medium where it stands among the user's tokens alone."""
        places = self.user.cumsum() - 1
        return replace(media, spans=tuple((int(places[start]), length) for start, length in media.spans))


def marks(config: Mapping[str, Any]) -> Marks:
    """The marks that config.json names."""
    thinker = require(config, "thinker_config")
    return Marks(
        require(config, "im_start_token_id"),
        require(config, "user_token_id"),
        require(config, "assistant_token_id"),
        tuple(require(thinker, f"{kind}_token_id") for kind in ("audio", "image", "video")),
    )


def read(request: Request, marks: Marks) -> Turns:
    """The turns of the request's prompt. Raises InvalidRequest unless the last one is the assistant's."""
    ids = np.array([token for part in request.parts if isinstance(part, Tokens) for token in part.ids])
    starts = np.flatnonzero(ids == marks.start)
    roles = ids[np.minimum(starts + 1, len(ids) - 1)]
    if not len(starts) or roles[-1] != marks.assistant:
        raise InvalidRequest(
            "a spoken answer needs a prompt in the chat's form, whose last turn is the assistant's; "
            "ask for text alone, or use the chat template",
            param="prompt",
        )
    turn = np.searchsorted(starts, np.arange(len(ids)), side="right") - 1
    user = (turn >= 0) & (roles == marks.user)[np.maximum(turn, 0)]
    return Turns(user, np.isin(ids, marks.media), int(starts[-1]))


def heard_media(request: Request, turns: Turns) -> list[MediaInput]:
    """The media of the user's turns, where they stand among the user's tokens.

    A video with its sound is a line, as it is for transformers' talker.
    """
    media = [part for part in request.parts if isinstance(part, MediaInput)]
    own = [one for one in media if turns.user[one.spans[0][0]] and "together" not in one.attributes]
    return [turns.moved(one) for one in own]
