"""Telling a GGUF file, a whole model in one file, from a directory."""

from __future__ import annotations

from pathlib import Path

MAGIC = b"GGUF"


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that begins as GGUF does, whatever its name is."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
