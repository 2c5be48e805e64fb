"""Qwen2.5-Omni's way with pictures, videos and sound. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutti.errors import InvalidMedia
from tutti.media.audio import MOST_SECONDS, read_audio
from tutti.models.processor.media import ReadMedium, array, place
from tutti.models.processor.speech import RATE, frames_of
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_vl.media import Sight, pixels
from tutti.models.reading import require
from tutti.request import Media, MediaInput

_LEAST_FRAMES = 4  # that make a token


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"image", "audio", "video"})

    def __init__(self, sight: Sight, placeholders: frozenset[int], tokens: Callable[[int], int]) -> None:
        """`placeholders` are the tokens that stand for a medium; `tokens` says how many so many samples fill."""
        self.sight = sight
        self.placeholders = placeholders
        self.tokens = tokens

    def insert(self, ids: list[int], media: Sequence[Media]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        read = [hear(one, self.tokens) if one.modality == "audio" else self.sight.read(one) for one in media]
        return place(ids, self.placeholders, read)


def hear(medium: Media, tokens: Callable[[int], int], most_seconds: float = MOST_SECONDS) -> ReadMedium:
    """A recording as samples float32 at 16 kHz; `tokens` as in `Reader`. Raises InvalidMedia."""
    samples = read_audio(medium.data, RATE, most_seconds=most_seconds)
    if frames_of(len(samples)) < _LEAST_FRAMES:
        raise InvalidMedia(f"the recording is {len(samples) / RATE:.3f} s long; it must have at least 0.03 s")
    return ReadMedium("audio", {"samples": array(samples)}, tokens(len(samples)))


def audio_tokens(samples: int) -> int:
    """The tokens of `samples` samples: a convolution halves the frames of their spectrogram, and then a pooling."""
    return ((frames_of(samples) - 1) // 2 + 1 - 2) // 2 + 1


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    thinker = part(config, "thinker_config")
    vision = part(thinker, "vision_config")
    placeholders = frozenset(require(thinker, f"{kind}_token_index") for kind in ("audio", "image", "video"))
    sight = Sight(pixels(folder, vision), thinker.get("position_id_per_seconds", 25), follows="whole")
    return Reader(sight, placeholders, audio_tokens)
