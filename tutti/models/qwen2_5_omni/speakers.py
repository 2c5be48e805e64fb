"""The voices of a checkpoint: spk_dict.pt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from tutti.errors import CheckpointError, InvalidRequest

FILE = "spk_dict.pt"
Voice = TypeVar("Voice")


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """A voice: `condition` float32 [1, width], `mel` float32 [1, frames, bands], and the token that begins its text."""

    condition: Tensor
    mel: Tensor
    bos_token: int


def load_speakers(folder: Path) -> dict[str, Speaker]:
    """The voices by name, in the file's order. Raises CheckpointError."""
    try:
        stored = torch.load(folder / FILE, weights_only=True)
        speakers = {
            name: Speaker(entry["cond"].float(), entry["ref_mel"].float(), int(entry["bos_token"]))
            for name, entry in stored.items()
        }
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {FILE}, which holds the voices; fetch it as well") from error
    except Exception as error:
        raise CheckpointError(f"{folder / FILE} is not a file of voices: {error}") from error
    if not speakers:
        raise CheckpointError(f"{folder / FILE} holds no voice")
    return speakers


def choose(speakers: Mapping[str, Voice], name: str | None) -> Voice:
    """The voice called `name`, however it is capitalized; None: the first. Raises InvalidRequest."""
    if name is None:
        return next(iter(speakers.values()))
    for known, speaker in speakers.items():
        if known.lower() == name.lower():
            return speaker
    raise InvalidRequest(f"there is no voice {name!r}; this model has {', '.join(speakers)}", param="voice")
