"""What a model says aloud, into a file: `tutti run MODEL --speak answer.wav`."""

from __future__ import annotations

from pathlib import Path

from tutti.errors import ConfigError
from tutti.events import AudioDelta

FORMATS = {
    ".wav": "wav",
    ".mp3": "mp3",
    ".flac": "flac",
    ".ogg": "opus",
    ".opus": "opus",
    ".aac": "aac",
    ".pcm": "pcm",
}


def check(path: Path, flag: str = "--speak", *, any_name: bool = False) -> None:
    """Raises ConfigError unless `path`, given with `flag`, can be a file of sound; `any_name`: whatever its ending."""
    if path.suffix.lower() not in FORMATS and not any_name:
        raise ConfigError(f"{flag} {path}: the name must end with {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no directory {path.absolute().parent}")


class SpeechFile:
    """What is said, until it is written; without any sound there is no file."""

    def __init__(self, path: Path) -> None:
        check(path)
        self.path = path
        self._sounds: list[AudioDelta] = []

    def add(self, sound: AudioDelta) -> None:
        """A piece of sound."""
        self._sounds.append(sound)

    def close(self) -> None:
        """Write what came. Raises ConfigError when the file cannot be written."""
        from tutti.media.audio_writer import write_sounds

        if not self._sounds:
            return
        data = write_sounds(self._sounds, FORMATS[self.path.suffix.lower()])
        try:
            self.path.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"--speak {self.path}: {error.strerror}") from error
