"""Qwen2-Audio's way with recordings. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti.models.processor.media import ReadMedium, place
from tutti.models.processor.speech import HOP, RATE
from tutti.models.qwen2_5_omni.media import audio_tokens, hear
from tutti.models.qwen2_audio.config import audio_config
from tutti.models.reading import require
from tutti.models.whisper.config import window_frames
from tutti.request import Media, MediaInput


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"audio"})

    def __init__(self, placeholder: int, most_seconds: float) -> None:
        """`placeholder` is the token that stands for a recording, which lasts `most_seconds` at most."""
        self.placeholder = placeholder
        self.most_seconds = most_seconds

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`."""
        return hear(medium, audio_tokens, self.most_seconds)

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        return place(ids, frozenset({self.placeholder}), media)


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    seconds = window_frames(audio_config(config)) * HOP / RATE
    placeholder = config.get("audio_token_id")  # transformers' newer name
    return Reader(require(config, "audio_token_index") if placeholder is None else placeholder, seconds)
