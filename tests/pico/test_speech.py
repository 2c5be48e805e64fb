"""The speech that pico is trained on: every voice speaks, at the asked rate, the same for the same seed."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from pico.speech import HEARD_RATE, OUTPUT, SPOKEN_RATE, VOICES, Speaker, disturb, random_speaker, say
from pico.values import LANGS, Lang

SENTENCE: dict[Lang, str] = {"en": "what is left of the red circle?", "zh": "红色圆形的左边是什么?"}


@pytest.mark.parametrize(("lang", "voice"), [(lang, voice) for lang in LANGS for voice in VOICES[lang]])
def test_every_voice_speaks(lang: Lang, voice: str) -> None:
    sound = say(SENTENCE[lang], Speaker(voice))
    assert sound.dtype == np.float32
    assert 1.0 < len(sound) / HEARD_RATE < 4.0
    assert 0.1 < np.abs(sound).max() <= 1.1


def test_there_are_enough_english_voices() -> None:
    assert len(VOICES["en"]) >= 8


def test_a_voice_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no voice"):
        say("hello", Speaker("xx-nobody"))


@pytest.mark.parametrize("lang", LANGS)
def test_the_same_seed_gives_the_same_speaker_and_disturbance(lang: Lang) -> None:
    def samples() -> int:
        rng = Random(5)
        return len(disturb(rng, say(SENTENCE[lang], random_speaker(rng, lang))))

    assert samples() == samples()


def test_the_rate_is_the_one_asked_for() -> None:
    slow, fast = (say("hello", OUTPUT["en"], rate) for rate in (HEARD_RATE, SPOKEN_RATE))
    assert len(fast) / len(slow) == pytest.approx(1.5, abs=0.01)
