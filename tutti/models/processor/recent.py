"""The media that were read lately: a conversation brings its own again with every turn. Torch-free."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from tutti.request import Media

if TYPE_CHECKING:
    from tutti.models.processor.media import MediaReader, ReadMedium

MOST_BYTES = 128 << 20  # of what is kept


class RecentMedia:
    """What a model's reader made of files, by their content; the least recently used go first. Safe for threads."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._kept: OrderedDict[tuple[str, bool, bytes], ReadMedium] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, reader: MediaReader, medium: Media) -> ReadMedium:
        """The medium as `reader` reads it, which must be the same one every time. Raises InvalidMedia."""
        key = (medium.modality, medium.sound, hashlib.sha256(medium.data).digest())
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        read = reader.read(medium)
        with self._lock:
            if key not in self._kept and read.nbytes <= self.most:
                self._kept[key] = read
                self._bytes += read.nbytes
            while self._bytes > self.most:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return read
