"""Faster or slower speech of the same pitch: FFmpeg's `atempo` (overlapping pieces, WSOLA), fed as the sound comes."""

from __future__ import annotations

import math

import numpy as np

SLOWEST, FASTEST = 0.25, 4.0
_STEP = 2.0  # what one filter changes at most


class Tempo:
    """Changes the tempo of one stream of sound, float32 [samples] at `rate` Hz."""

    def __init__(self, speed: float, rate: int) -> None:
        """`speed` is in [SLOWEST, FASTEST]; 2 halves the duration."""
        import av.filter

        self._rate = rate
        self._frame = rate // 50  # the graph keeps back the last frame it was given: 20 ms
        self._count = 0
        self._graph = av.filter.Graph()
        source = self._graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", channels=1)
        last = source
        steps = max(1, math.ceil(abs(math.log(speed)) / math.log(_STEP)))
        for _ in range(steps):
            filter = self._graph.add("atempo", str(speed ** (1 / steps)))
            last.link_to(filter)
            last = filter
        sink = self._graph.add("abuffersink")
        last.link_to(sink)
        self._graph.configure()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What follows from `samples`; some of it is kept back until more comes."""
        import av

        found = [np.zeros(0, np.float32)]
        for start in range(0, len(samples), self._frame):
            part = np.ascontiguousarray(samples[start : start + self._frame], np.float32)
            frame = av.AudioFrame.from_ndarray(part[None], "flt", "mono")
            frame.sample_rate = self._rate
            frame.pts = self._count
            self._count += len(part)
            self._graph.push(frame)
            found += self._pull()
        return np.concatenate(found)

    def finish(self) -> np.ndarray:
        """What was kept back."""
        self._graph.push(None)
        return np.concatenate([np.zeros(0, np.float32), *self._pull()])

    def _pull(self) -> list[np.ndarray]:
        """The frames that are ready, float32 [samples] each."""
        import av

        found: list[np.ndarray] = []
        while True:
            try:
                found.append(self._graph.pull().to_ndarray().reshape(-1))
            except (av.BlockingIOError, av.EOFError):
                return found
