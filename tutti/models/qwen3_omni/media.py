"""Qwen3-Omni's way with pictures, videos and sound. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tutti.models.processor.speech import HOP
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.media import Reader, Soundtracks
from tutti.models.qwen2_vl.media import Sight, pixels
from tutti.models.reading import require

WINDOW = 100  # frames of a spectrogram that are heard together: a second
_TOKENS = 13  # of a whole window


def audio_tokens(samples: int) -> int:
    """The tokens of `samples` samples: three convolutions halve the frames of each window of their spectrogram."""
    whole, rest = divmod(samples // HOP, WINDOW)
    return whole * _TOKENS + (rest + 7) // 8


def by_time(times: np.ndarray, sounds: int) -> np.ndarray:
    """Pictures and sound in the order of their times, pictures first; see `Soundtracks.weave`."""
    heard = np.arange(sounds)
    kinds = np.concatenate([np.ones(len(times), dtype=bool), np.zeros(sounds, dtype=bool)])
    return kinds[np.concatenate([times, heard]).argsort(kind="stable")]


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    thinker = part(config, "thinker_config")
    how = pixels(folder, {"patch_size": 16} | dict(part(thinker, "vision_config")))
    image, audio, video = (require(thinker, f"{kind}_token_id") for kind in ("image", "audio", "video"))

    def soundtracks() -> Soundtracks:
        marks = require(thinker, "audio_start_token_id"), require(thinker, "audio_end_token_id")
        return Soundtracks(by_time, marks, audio, video)

    sight = Sight(how, thinker.get("position_id_per_seconds", 25), follows="exactly")
    return Reader(sight, frozenset((image, audio, video)), audio_tokens, soundtracks)
