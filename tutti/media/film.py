"""Frames to a film and what such a file says of itself: MP4 by PyAV's encoders."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tutti.events import VideoDelta
from tutti.media.container import NOTE, open_container

if TYPE_CHECKING:
    from av.video.stream import VideoStream

CONTENT_TYPE = "video/mp4"
# H.264, as all players have it, so close to the frames that an eye sees no difference; where FFmpeg was built without,
# MPEG-4.
_CODECS = {"libx264": {"crf": "17", "preset": "medium"}, "mpeg4": {"qmin": "2", "qmax": "4"}}
_BT709 = 1  # in FFmpeg's enumerations: how players take the colours of what does not say
_LIMITED = 1  # brightness from 16 to 235


class FilmWriter:
    """An MP4 file that is written while its frames come, and can be played while it is loaded."""

    def __init__(self, path: Path, rate: float, note: str = "") -> None:
        """`rate` in frames a second; `container.read_note` finds the `note`. Raises OSError where no file can be."""
        import av

        self.frames = 0
        self._container = av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"})
        if note:
            self._container.metadata[NOTE] = note
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: VideoStream | None = None

    def push(self, frames: np.ndarray) -> None:
        """Encode `frames`, uint8 [frames, height, width, 3], all of one size, with even sides."""
        import av
        from av.video.reformatter import Colorspace

        stream = self._stream or self._begin(*frames.shape[1:3])
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            coded = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            coded.pts, coded.time_base = self.frames, 1 / self._rate
            self.frames += 1
            self._container.mux(stream.encode(coded))

    def finish(self) -> None:
        """Encode what was held back, and end the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _begin(self, height: int, width: int) -> VideoStream:
        import av

        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream = cast(
            "VideoStream", self._container.add_stream(codec, rate=self._rate, options=_CODECS[codec])
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._stream = stream
        return stream


def write_film(frames: np.ndarray, rate: float, note: str = "") -> bytes:
    """An MP4 file of `frames`, uint8 [frames, height, width, 3], `rate` of them a second; it carries the `note`."""
    with tempfile.TemporaryDirectory() as folder:  # what can be played while it is loaded is read once more
        path = Path(folder) / "film.mp4"
        writer = FilmWriter(path, rate, note)
        writer.push(frames)
        writer.finish()
        return path.read_bytes()


def joined(pieces: Sequence[VideoDelta]) -> np.ndarray:
    """The frames of all these pieces, uint8 [frames, height, width, 3]."""
    return np.concatenate(
        [np.frombuffer(piece.frames, np.uint8).reshape(*piece.shape, 3) for piece in pieces]
    )


def still(film: bytes) -> bytes:
    """The first frame of a film that was made here, as a WebP file."""
    with open_container(film) as container:
        image = next(container.decode(video=0)).to_image()
    file = BytesIO()
    image.save(file, "WEBP", quality=90)
    return file.getvalue()
