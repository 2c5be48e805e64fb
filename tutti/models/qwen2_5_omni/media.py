"""Qwen2.5-Omni's way with pictures, videos and sound. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.audio import MOST_SECONDS, read_audio
from tutti.media.video import read_soundtrack
from tutti.models.processor.files import sound_settings
from tutti.models.processor.media import ReadMedium, array, place
from tutti.models.processor.speech import HOP, RATE, frames_of
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_vl.media import Sight, pixels
from tutti.models.reading import require
from tutti.request import Media, MediaInput

_LEAST_SAMPLES = 3 * HOP + 1

Weave = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class Soundtracks:
    """How a video is written whose sound is heard with it.

    `weave` says of the video's tokens' times (in positions, float64 [tokens]) and the number of the sound's tokens
    which of them all, bool [tokens], are the video's. `marks` begin and end the sound; `audio` and `video` are the
    placeholders. `shared`: the marks stand at the positions of those around the video.
    """

    weave: Weave
    marks: tuple[int, int]
    audio: int
    video: int
    shared: bool = False

    def together(self, seen: ReadMedium, heard: ReadMedium) -> ReadMedium:
        """The video `seen` with the sound `heard`."""
        frames, rows, columns = seen.grid
        times = np.repeat(np.arange(frames) * seen.attributes["interval"], rows * columns)
        tokens = np.where(self.weave(times, heard.tokens), self.video, self.audio)
        attributes = seen.attributes | {"together": 1.0} | ({"marked": 1.0} if self.shared else {})
        begin, end = self.marks
        return replace(
            seen,
            attributes=attributes,
            written=(begin, *tokens.tolist(), end),
            track=replace(heard, attributes={"together": 1.0}),
            track_token=self.audio,
        )


class Reader:
    """Implements `models.processor.media.MediaReader`."""

    modalities = frozenset({"image", "audio", "video"})

    def __init__(
        self,
        sight: Sight,
        placeholders: frozenset[int],
        tokens: Callable[[int], int],
        soundtracks: Callable[[], Soundtracks],
    ) -> None:
        """`placeholders` are the tokens that stand for a medium; `tokens` says how many so many samples fill.

        `soundtracks` is asked when the first video is heard; not every checkpoint can say.
        """
        self.sight = sight
        self.placeholders = placeholders
        self.tokens = tokens
        self.soundtracks = soundtracks

    def insert(self, ids: list[int], media: Sequence[ReadMedium]) -> tuple[list[int], list[MediaInput]]:
        """See `MediaReader.insert`."""
        return place(ids, self.placeholders, media)

    def read(self, medium: Media) -> ReadMedium:
        """See `MediaReader.read`."""
        if medium.modality == "audio":
            return hear(medium, self.tokens)
        seen = self.sight.read(medium)
        if not medium.sound:
            return seen
        samples = read_soundtrack(medium.data, RATE)
        if samples is None:
            raise InvalidMedia("the video has no sound track: leave use_audio_in_video out")
        return self.soundtracks().together(seen, recording(samples, self.tokens))


def hear(medium: Media, tokens: Callable[[int], int], most_seconds: float = MOST_SECONDS) -> ReadMedium:
    """A recording as samples float32 at 16 kHz; `tokens` as in `Reader`. Raises InvalidMedia."""
    return recording(read_audio(medium.data, RATE, most_seconds=most_seconds), tokens)


def recording(samples: np.ndarray, tokens: Callable[[int], int]) -> ReadMedium:
    """Samples float32 at 16 kHz; `tokens` as in `Reader`. Raises InvalidMedia."""
    heard = tokens(len(samples))
    if len(samples) < _LEAST_SAMPLES or heard < 1:
        raise InvalidMedia(f"the recording is {len(samples) / RATE:.3f} s long: too short to hear anything")
    return ReadMedium("audio", {"samples": array(samples)}, heard)


def audio_tokens(samples: int, hop: int = HOP) -> int:
    """The tokens of `samples` samples: a convolution halves the frames of their spectrogram, and then a pooling."""
    return ((frames_of(samples, hop) - 1) // 2 + 1 - 2) // 2 + 1


def hop_of(folder: Path) -> int:
    """The samples from one frame of a spectrogram to the next, as the checkpoint in `folder` says."""
    return int(sound_settings(folder).get("hop_length", HOP))


def in_chunks(chunk: int) -> Weave:
    """Pictures and sound by turns, for as long as `chunk` positions each, the pictures first."""

    def weave(times: np.ndarray, sounds: int) -> np.ndarray:
        pieces: list[np.ndarray] = []
        for seen, heard in zip_longest(_cut(times, chunk), _cut(np.arange(sounds), chunk), fillvalue=0):
            pieces += [np.ones(seen, dtype=bool), np.zeros(heard, dtype=bool)]
        return np.concatenate(pieces)

    return weave


def _cut(times: np.ndarray, chunk: int) -> list[int]:
    """The lengths of the runs of rising `times`: the k-th ends where a time reaches k chunks."""
    lengths = [0]
    for time in times:
        if time >= len(lengths) * chunk:
            lengths.append(0)
        lengths[-1] += 1
    return lengths


def reader(folder: Path, config: dict[str, Any]) -> Reader:
    """The reader of the checkpoint in `folder`."""
    thinker = part(config, "thinker_config")
    vision = part(thinker, "vision_config")
    image, audio, video = (require(thinker, f"{kind}_token_index") for kind in ("image", "audio", "video"))
    per_second = thinker.get("position_id_per_seconds", 25)
    chunk = int(per_second * thinker.get("seconds_per_chunk", 2))

    def soundtracks() -> Soundtracks:
        marks = require(thinker, "audio_start_token_id"), require(thinker, "audio_end_token_id")
        return Soundtracks(in_chunks(chunk), marks, audio, video, shared=True)

    sight = Sight(pixels(folder, vision), per_second, follows="whole")
    tokens = partial(audio_tokens, hop=hop_of(folder))
    return Reader(sight, frozenset((image, audio, video)), tokens, soundtracks)
