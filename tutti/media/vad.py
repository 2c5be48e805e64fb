"""Whether somebody speaks: the voice activity detector of WebRTC behind a gate of loudness, for sound as it comes.

One verdict for every 20 ms, counted in samples: how the sound was cut into pieces on its way does not change it. What
makes a turn of speech out of verdicts is not known here.
"""

from __future__ import annotations

import numpy as np
import soxr
import webrtcvad

from tutti.media.pcm import to_pcm16

FRAMES = 50  # verdicts a second
_RATE = 8_000  # Hz the detector works at, whatever it is given
_FRAME = _RATE // FRAMES
_QUIETEST, _RANGE = -70.0, 40.0  # dB under full scale: the gate at a threshold of 0, and how far 1 lifts it


class VoiceActivity:
    """The verdicts on one stream."""

    def __init__(self, rate: int, threshold: float = 0.5) -> None:
        """`rate` in Hz. `threshold` in [0, 1]: the higher, the louder and the more like speech a sound must be.

        It sets the detector's aggressiveness (0 to 3), and the gate: -70 dB of full scale at 0, -30 dB at 1.
        """
        self._detector = webrtcvad.Vad(min(int(4 * threshold), 3))
        self._gate = 10 ** ((_QUIETEST + _RANGE * threshold) / 20)
        self._resampler = None if rate == _RATE else soxr.ResampleStream(rate, _RATE, 1, "float32", "LQ")
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> list[bool]:
        """The verdicts that float32 [samples] settle."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32))
        known = np.concatenate([self._rest, samples])
        whole = len(known) // _FRAME
        self._rest = known[whole * _FRAME :]
        return [self._speech(frame) for frame in known[: whole * _FRAME].reshape(whole, _FRAME)]

    def _speech(self, frame: np.ndarray) -> bool:
        heard = self._detector.is_speech(to_pcm16(frame), _RATE)  # always asked: it adapts to the noise
        return bool(heard) and float(np.sqrt(np.mean(frame * frame))) >= self._gate
