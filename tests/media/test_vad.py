"""Verdicts about speech depend on the sound, not on how it was cut or how fast it was sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.conversing import quiet, speech
from tutti.media.vad import FRAMES, VoiceActivity


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
def test_noise_like_speech_is_told_from_silence(rate: int) -> None:
    sound = np.concatenate([quiet(1.0, rate), speech(1.0, rate=rate), quiet(1.0, rate)])
    verdicts = VoiceActivity(rate).push(sound)
    assert len(verdicts) == pytest.approx(3 * FRAMES, abs=2)
    assert not any(verdicts[: FRAMES - 1])
    assert sum(verdicts[FRAMES : 2 * FRAMES]) > 0.9 * FRAMES
    assert not any(verdicts[2 * FRAMES + FRAMES // 2 :])


def test_a_higher_threshold_wants_louder_speech() -> None:
    whisper = np.concatenate([quiet(0.5), 0.02 * speech(1.0)])
    heard = [sum(VoiceActivity(24_000, threshold).push(whisper)) for threshold in (0.0, 0.5, 1.0)]
    assert heard[0] > 0 and heard[0] >= heard[1] >= heard[2] == 0


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=30))
def test_the_cut_of_the_sound_changes_nothing(sizes: list[int]) -> None:
    sound = np.concatenate([quiet(0.3), speech(0.8), quiet(0.4)])
    whole = VoiceActivity(24_000).push(sound)
    activity, found, start = VoiceActivity(24_000), [], 0
    for size in sizes:
        found += activity.push(sound[start : start + size])
        start += size
    found += activity.push(sound[start:])
    assert found[: len(whole) - 2] == whole[: len(found)][: len(whole) - 2]
    assert abs(len(found) - len(whole)) <= 2
