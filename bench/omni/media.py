"""The long recording and the long video of the benchmark, as files; and how they look to the model."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16_000
SIZE, FPS = (640, 360), 10
LENGTHS = {"recording": 300.0, "video": 120.0}  # seconds
TINY = {"recording": 12.0, "video": 3.0}
PLACES = {"recording": ("audio", 3, 6, 7), "video": ("video", 5, 8, 9)}  # modality, placeholder, begin, end


def make_file(folder: Path, kind: str, seconds: float) -> Path:
    """A recording of noise that swells and fades, or a video of a drifting pattern; written once."""
    path = folder / f"{kind}-{seconds:.0f}s.{'wav' if kind == 'recording' else 'mp4'}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".part{path.suffix}")
        (_record if kind == "recording" else _film)(unfinished, seconds)
        unfinished.rename(path)
    return path


def picture(number: int) -> np.ndarray:
    """Picture `number`, uint8 [480, 640, 3]: soft waves in colours, with a little grain, as a photograph has it."""
    draw = np.random.default_rng(number)
    down, right = np.mgrid[0:480, 0:640]
    waves = [np.sin(right / draw.uniform(20, 90) + down / draw.uniform(20, 90) + k) for k in range(3)]
    return (127 + 100 * np.stack(waves, -1) + draw.normal(0, 2, (480, 640, 3))).clip(0, 255).astype(np.uint8)


def _record(path: Path, seconds: float) -> None:
    draw = np.random.default_rng(0)
    times = np.arange(int(seconds * RATE)) / RATE
    samples = 0.1 * draw.standard_normal(len(times)) * (1.2 + np.sin(2 * np.pi * times / 3))
    soundfile.write(path, samples.astype(np.float32), RATE, subtype="PCM_16")


def _film(path: Path, seconds: float) -> None:
    width, height = SIZE
    down, right = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(int(seconds * FPS)):
            frame = np.stack([right + number, down + 2 * number, right + down + 3 * number], -1) % 256
            image = av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="rgb24")
            out.mux(stream.encode(image))
        out.mux(stream.encode())
