"""Files to videos: frames sampled evenly in time, uint8 [frames, height, width, 3], and the sound beside them.

A file is gone through twice. The first time only its packets are listed, which says when each frame is shown (headers
are not believed); then the frames to be taken are chosen, and no more is decoded than they depend on:

    packets  K . . . . . K . . . . . K . . . . .      K: a key frame, where decoding may begin
    taken        ^           ^           ^
    decoded  =====       =====       =====
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.animation import read_animation
from tutti.media.audio import MOST_SECONDS as MOST_SOUND
from tutti.media.audio import read_container
from tutti.media.broken import reading
from tutti.media.container import open_container
from tutti.media.kind import sniff
from tutti.media.sampling import LARGEST_FRAME, Budget, Video, assemble, choose

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Video", "read_soundtrack", "read_video"]

ADVICE = "send a whole MP4, WebM, MOV, MKV, AVI or GIF file"

_ANIMATIONS = {"image/gif", "image/webp", "image/avif", "image/png"}
_WHOLE = 0.8  # of the announced frames; editing may hide some, but what has fewer was cut


def read_video(
    data: bytes,
    *,
    fps: float = 2.0,
    most_frames: int = 768,
    most_seconds: float = 3600.0,
    most_pixels: int = 1920 * 1080,
    total_pixels: int = 1 << 27,
) -> Video:
    """`fps` frames a second of the video in a file of any common format, an animated GIF or WebP included.

    At least two frames if it has so many, at most `most_frames`: the first, the last, and evenly spaced ones between.
    Turned upright as the file says. Frames are made smaller, keeping their shape, where one would have more than
    `most_pixels` or all together more than `total_pixels`. Raises InvalidMedia, for one when the video is longer than
    `most_seconds`.
    """
    budget = Budget(fps, most_frames, most_seconds, most_pixels, total_pixels)
    with reading("video", data, ADVICE):
        if sniff(data) in _ANIMATIONS:
            return read_animation(data, budget)
        with open_container(data) as container:
            if not container.streams.video:
                raise InvalidMedia(f"the file has no pictures in it; {ADVICE}")
            return _read(container, budget)


def read_soundtrack(data: bytes, rate: int, *, most_seconds: float = MOST_SOUND) -> np.ndarray | None:
    """The sound of a video, float32 [samples] at `rate` Hz (see `audio.read_audio`), or None. Raises InvalidMedia."""
    with reading("video", data, ADVICE):
        if sniff(data) in _ANIMATIONS:
            return None
        with open_container(data) as container:
            return read_container(container, rate, most_seconds) if container.streams.audio else None


def _read(container: InputContainer, budget: Budget) -> Video:
    stream = container.streams.video[0]
    budget.check_size(stream.codec_context.width, stream.codec_context.height)
    # What the frames themselves say is checked by FFmpeg, before it makes room for them.
    stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}
    packets = [packet for packet in container.demux(stream) if packet.size]
    if not packets:
        raise InvalidMedia(f"the video is empty: it has no frames; {ADVICE}")
    timeline = _Timeline(stream, packets)
    budget.check_seconds(timeline.seconds)
    taken = choose(timeline.seconds_of, timeline.seconds, budget)
    frames = _decode(timeline, [timeline.shown[index] for index in taken])
    times = [timeline.seconds_of[index] for index in taken]
    return assemble(_images(frames, budget, len(taken)), times, timeline.seconds)


class _Timeline:
    """When the frames of a stream are shown, by its packets."""

    def __init__(self, stream: VideoStream, packets: Sequence[Packet]) -> None:
        """`packets` are all of them, in the file's order. Raises InvalidMedia if the file was cut."""
        self.stream = stream
        self.packets = packets
        self.timed = all(packet.pts is not None for packet in packets)
        if self.timed:
            base = stream.time_base or Fraction(1)
            self.shown = sorted(packet.pts or 0 for packet in packets)
            length = _last_duration(packets, self.shown, stream, base)
            keys = sorted(
                (packet.pts or 0, place) for place, packet in enumerate(packets) if packet.is_keyframe
            )
        else:  # a bare stream: frames are counted as they come
            base = 1 / (stream.average_rate or Fraction(25))
            self.shown = list(range(len(packets)))
            length, keys = 1, []
        self.keys = keys
        self.seconds = float((self.shown[-1] - self.shown[0] + length) * base)
        self.seconds_of = [float((time - self.shown[0]) * base) for time in self.shown]
        self._check_whole()

    def start(self, time: int) -> int:
        """The packet from which the frame shown at `time` can be decoded."""
        place = bisect_right(self.keys, (time, len(self.packets))) - 1
        return self.keys[place][1] if place >= 0 else 0

    def _check_whole(self) -> None:
        announced = self.stream.frames
        whole = sum(not packet.is_corrupt for packet in self.packets)
        if announced and (whole < len(self.packets) or whole < _WHOLE * announced):
            raise InvalidMedia(
                f"the video is cut short: its header announces {announced:,} frames and {whole:,} are there; {ADVICE}"
            )


def _last_duration(
    packets: Sequence[Packet], shown: Sequence[int], stream: VideoStream, base: Fraction
) -> int:
    """How long the last frame is shown, in units of `base`."""
    last = max(packets, key=lambda packet: packet.pts or 0)
    if last.duration:
        return last.duration
    if len(shown) > 1:
        return round(median(after - before for before, after in pairwise(shown)))
    return max(1, round(1 / (stream.average_rate or Fraction(25)) / base))


class _Run:
    """The frames that come out of the decoder from one packet on, with the time each is shown."""

    def __init__(self, timeline: _Timeline, start: int) -> None:
        self.fed = start  # the packets before it went into the decoder, or never will
        self._timeline = timeline

    def __iter__(self) -> Iterator[tuple[int, VideoFrame]]:
        timeline = self._timeline
        timeline.stream.codec_context.flush_buffers()
        count = 0
        while self.fed <= len(timeline.packets):
            packet = timeline.packets[self.fed] if self.fed < len(timeline.packets) else None
            self.fed += 1
            for frame in timeline.stream.decode(packet):
                count += 1
                if not timeline.timed:
                    yield count - 1, frame
                elif frame.pts is not None:
                    yield frame.pts, frame


def _decode(timeline: _Timeline, taken: Sequence[int]) -> Iterator[VideoFrame]:
    """The frames shown at these rising times; where one cannot be decoded, the next one. Raises InvalidMedia."""
    run = _Run(timeline, 0)
    frames = iter(run)
    time, frame = None, None
    for wanted in taken:
        start = timeline.start(wanted)
        if start > run.fed:
            run = _Run(timeline, start)
            frames = iter(run)
        fresh = False
        while time is None or time < wanted:
            found = next(frames, None)
            if found is None:
                break
            time, frame = found
            fresh = True
        if frame is None or (time is not None and time < wanted and not fresh):
            raise InvalidMedia(f"the video is broken: its frames cannot be decoded; {ADVICE}")
        yield frame


def _images(frames: Iterator[VideoFrame], budget: Budget, count: int) -> Iterator[np.ndarray]:
    """Frames as uint8 [height, width, 3], upright and all of the first one's size."""
    size: tuple[int, int] | None = None
    turns = 0
    for frame in frames:
        budget.check_size(frame.width, frame.height)
        if size is None:
            size = budget.fit(frame.height, frame.width, count)
            turns = round(frame.rotation / 90)
        if size == (frame.height, frame.width):
            image = frame.to_ndarray(format="rgb24")
        else:
            small = frame.reformat(size[1], size[0], "rgb24", interpolation="BICUBIC")
            image = small.to_ndarray()
        yield np.rot90(image, turns)
