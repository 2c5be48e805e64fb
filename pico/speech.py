"""Speech of the toy world, made by eSpeak NG: many English and Mandarin voices to be heard, one fixed voice to speak with.

eSpeak comes with the wheel `espeakng-loader` and is needed for training and examining alone: no part of Tutti uses it.
What is heard (`random_speaker`, then `disturb`) differs in voice, rate, pitch, loudness and noise; what is spoken
(`OUTPUT`) is always the same speaker. Chinese is read by the voice `cmn`. eSpeak's oscillators run on from one sentence to the next:
a process that says the same things in the same order makes the same samples.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

from .values import Lang

Sound = NDArray[np.float32]
"""Samples of one channel, float32 in -1..1."""

HEARD_RATE: Final = 16_000
"""Hertz, as the audio encoder takes it."""
SPOKEN_RATE: Final = 24_000
"""Hertz, as the token2wav stage makes it."""

_VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3", "+f4")
_ENGLISH = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-gb-x-gbclan", "en-029")
VOICES: dict[Lang, tuple[str, ...]] = {
    "en": tuple(base + variant for base in _ENGLISH[:2] for variant in _VARIANTS) + _ENGLISH[2:],
    "zh": tuple("cmn" + variant for variant in _VARIANTS),
}


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice of eSpeak; `rate` in words a minute, `pitch` and `liveliness` (how much the pitch moves) from 0 to 100."""

    voice: str
    rate: int = 160
    pitch: int = 50
    liveliness: int = 50


OUTPUT: dict[Lang, Speaker] = {"en": Speaker("en-us"), "zh": Speaker("cmn")}
"""Who speaks when pico speaks."""


def random_speaker(rng: Random, lang: Lang) -> Speaker:
    """Somebody who asks pico something."""
    return Speaker(rng.choice(VOICES[lang]), rng.randint(120, 190), rng.randint(25, 75), rng.randint(30, 70))


def say(text: str, speaker: Speaker, rate: int = HEARD_RATE) -> Sound:
    """The text read aloud, at `rate` samples a second. Raises `RuntimeError` if eSpeak has no such voice."""
    sound, made_at = _espeak().say(text, speaker)
    return np.asarray(soxr.resample(sound, made_at, rate), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text read aloud: its sound, how long it is, and where each word begins, as (character of the text, seconds)."""

    text: str
    sound: Sound
    seconds: float
    starts: tuple[tuple[int, float], ...]

    def when(self, places: Sequence[int]) -> NDArray[np.float64]:
        """When the characters at these places are said; words that eSpeak ran together share their time evenly."""
        known, times = zip(*self.starts, (len(self.text), self.seconds), strict=True)
        return np.interp(places, known, times)


def read(text: str, speaker: Speaker, rate: int) -> Reading:
    """As `say`, and where the words are."""
    sound, made_at = _espeak().say(text, speaker)
    resampled = np.asarray(soxr.resample(sound, made_at, rate), dtype=np.float32)
    return Reading(text, resampled, len(resampled) / rate, tuple(_espeak().starts))


def disturb(rng: Random, sound: Sound) -> Sound:
    """The sound at another loudness, with noise, and with a little silence before and after it."""
    noise = np.random.default_rng(rng.getrandbits(32))
    before, after = rng.randint(0, HEARD_RATE // 8), rng.randint(0, HEARD_RATE // 8)
    louder = np.pad(sound * rng.uniform(0.3, 1.5), (before, after))
    level = rng.choice((0.0, 0.001, 0.003, 0.01))
    return (louder + level * noise.standard_normal(len(louder))).clip(-1, 1).astype(np.float32)


@cache
def phonemes(text: str, lang: Lang) -> tuple[str, ...]:
    """The sounds that the text is read with, without stress; a Chinese vowel carries its tone."""
    marked = _espeak().phonemes(text, OUTPUT[lang])
    symbols = (re.sub(r"[',|]|\(.*\)", "", symbol) for symbol in re.split(r"[_\s]+", marked))
    return tuple(f"{lang} {symbol}" for symbol in symbols if symbol not in ("", ":", ";"))


@cache
def _espeak() -> _Espeak:
    return _Espeak()


class _Event(ctypes.Structure):
    """`espeak_EVENT`: positions are of characters from one on, and of sound in milliseconds."""

    LAST, WORD = 0, 1
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Espeak:
    """The C library: one voice at a time, samples delivered to a callback. Not safe for threads."""

    _UTF8, _SUCCESS = 1, 0
    _RATE, _PITCH, _RANGE = 1, 3, 4

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        # Mode 2: synchronous, samples to the callback. Returns the sample rate.
        self.rate = int(self._library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._pieces: list[NDArray[np.int16]] = []
        self.starts: list[tuple[int, float]] = []
        deliver = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._deliver = deliver(self._take)  # kept: the library holds no reference
        self._library.espeak_SetSynthCallback(self._deliver)

    def _take(
        self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]
    ) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        for index in itertools.count():
            event = events[index]
            if event.type == _Event.LAST:
                return 0
            if event.type == _Event.WORD:
                self.starts.append((event.text_position - 1, event.audio_position / 1000))
        return None

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != self._SUCCESS:
            raise RuntimeError(f"eSpeak has no voice {voice!r}; see pico.speech.VOICES")

    def phonemes(self, text: str, speaker: Speaker) -> str:
        """eSpeak's own symbols, with `_` between those of a word."""
        self._choose(speaker.voice)
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses: list[str] = []
        while rest.value:  # one clause at a time; the library moves the pointer on
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), self._UTF8, ord("_") << 8)
            clauses.append(clause.decode())
        return " ".join(clauses)

    def say(self, text: str, speaker: Speaker) -> tuple[Sound, int]:
        self._choose(speaker.voice)
        for parameter, value in (
            (self._RATE, speaker.rate),
            (self._PITCH, speaker.pitch),
            (self._RANGE, speaker.liveliness),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        self.starts.clear()
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, 0, 0, self._UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._pieces:
            return np.zeros(0, np.float32), self.rate
        return np.concatenate(self._pieces).astype(np.float32) / np.float32(32768), self.rate
