"""Small real files for the tests of media, made by the libraries that others make them with."""

from __future__ import annotations

import struct
from io import BytesIO

import av
import numpy as np
import soundfile
from PIL import Image

STEP = 8  # frame k of a test's video is a grey of k * STEP


def picture(height: int = 6, width: int = 9) -> np.ndarray:
    """Any picture [height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """The picture as a file."""
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """A sine, float32 [samples]."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def recording(samples: np.ndarray, rate: int, format: str, subtype: str | None = None) -> bytes:
    """Sound [samples] or [samples, channels] as soundfile writes it."""
    file = BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def encoded(samples: np.ndarray, rate: int, container: str, codec: str) -> bytes:
    """Sound [samples] as FFmpeg writes it."""
    file = BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        _write_sound(out, stream, samples, rate)
    return file.getvalue()


def remuxed(wav: bytes, container: str) -> bytes:
    """The samples of a WAV file in another container, which soundfile does not read."""
    file = BytesIO()
    with av.open(BytesIO(wav)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return file.getvalue()


def video(
    count: int = 30,
    fps: int = 10,
    *,
    height: int = 48,
    width: int = 64,
    container: str = "mp4",
    codec: str = "libx264",
    sound: np.ndarray | None = None,
    times: list[int] | None = None,
    **options: str,
) -> bytes:
    """A video whose frame k is a grey of k * STEP with a white corner (top left), shown at k or at `times[k]`."""
    file = BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        track = None if sound is None else out.add_stream("aac", rate=16_000, layout="mono")
        for index in range(count):
            pixels = np.full((height, width, 3), index * STEP % 256, np.uint8)
            pixels[: height // 4, : width // 4] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index if times is None else times[index]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if track is not None and sound is not None:
            _write_sound(out, track, sound, 16_000)
    return file.getvalue()


def _write_sound(
    out: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray, rate: int
) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
    frame.sample_rate, frame.pts = rate, 0
    out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def index_first(mp4: bytes) -> bytes:
    """The video with its index (moov) before its frames (mdat), as on the web."""
    boxes, place = {}, 0
    while place < len(mp4):
        size = int.from_bytes(mp4[place : place + 4])
        boxes[mp4[place + 4 : place + 8]] = mp4[place : place + size]
        place += size
    index = bytearray(boxes[b"moov"])
    table = index.index(b"stco") + 8
    for k in range(int.from_bytes(index[table : table + 4])):
        entry = table + 4 + 4 * k
        index[entry : entry + 4] = struct.pack(">I", int.from_bytes(index[entry : entry + 4]) + len(index))
    return boxes[b"ftyp"] + index + boxes[b"free"] + boxes[b"mdat"]


def turned(mp4: bytes) -> bytes:
    """The video with a header that says: show it turned a quarter clockwise, as telephones write it."""
    place = mp4.index(b"tkhd") + 4
    matrix = place + (52 if mp4[place] else 40)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    return mp4[:matrix] + quarter + mp4[matrix + 36 :]


def shown(frames: np.ndarray) -> list[int]:
    """Which frames of `video` these are, by their grey."""
    return [
        round(float(frame[frame.shape[0] // 2 :, frame.shape[1] // 2 :].mean()) / STEP) for frame in frames
    ]


def animation(format: str, count: int = 12, milliseconds: int = 100) -> bytes:
    """Greys as in `video`, as an animated picture."""
    frames = [Image.new("RGB", (32, 24), (k * STEP,) * 3) for k in range(count)]
    options = {"lossless": True} if format == "WEBP" else {}
    return saved(
        frames[0], format, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options
    )
