"""Sound at another tempo has another duration and the same pitch, however it is cut into pieces."""

from __future__ import annotations

import numpy as np
import pytest

from tutti.errors import InvalidRequest
from tutti.events import AudioDelta
from tutti.media.audio import read_audio
from tutti.media.pcm import to_pcm16
from tutti.media.spoken import SpokenFile, joined, whole_file
from tutti.media.tempo import Tempo

RATE = 24_000
TONE = (0.3 * np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.3, 2.0, 3.0, 4.0])
def test_the_duration_changes_and_the_pitch_stays(speed: float) -> None:
    tempo = Tempo(speed, RATE)
    pieces = [tempo.push(TONE[start : start + 4_321]) for start in range(0, len(TONE), 4_321)]
    heard = np.concatenate([*pieces, tempo.finish()])
    assert len(heard) == pytest.approx(len(TONE) / speed, rel=0.02)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * RATE / len(heard) == pytest.approx(220, abs=2)


def test_sound_comes_out_before_all_of_it_went_in() -> None:
    tempo = Tempo(2.0, RATE)
    assert len(tempo.push(TONE[:RATE])) > RATE / 2 * 0.8


def test_a_file_in_pieces_and_in_one_hold_the_same_sound() -> None:
    sounds = [AudioDelta("r", to_pcm16(part), RATE) for part in np.array_split(TONE, 7)]
    file = SpokenFile("wav", 1.5)
    streamed = b"".join([*map(file.push, sounds), file.finish()])
    np.testing.assert_allclose(
        read_audio(streamed, RATE), read_audio(whole_file(sounds, "wav", 1.5), RATE), atol=1e-3
    )
    assert len(joined(sounds)[0]) == len(TONE)


def test_no_sound_is_no_file() -> None:
    assert SpokenFile("mp3").finish() == whole_file([], "mp3") == b""


@pytest.mark.parametrize("speed", [0.2, 4.1, float("nan")])
def test_another_tempo_is_refused(speed: float) -> None:
    with pytest.raises(InvalidRequest, match="speed must be between"):
        SpokenFile("wav", speed)
