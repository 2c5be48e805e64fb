"""Typed access to a GGUF file's metadata: what is of another type than it should be is an error that names the key."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from tutti.errors import CheckpointError
from tutti.formats.gguf.reader import Array, GGUFFile

T = TypeVar("T", int, float, str, bool)
MOST = 1 << 31  # of a number of things


class Keys:
    """The metadata of `file`. Keys that begin with "." are the architecture's own: ".block_count"."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.architecture = self.text("general.architecture") or ""

    def name(self, key: str) -> str:
        """The key as it stands in the file."""
        return self.architecture + key if key.startswith(".") else key

    def __contains__(self, key: str) -> bool:
        return self.name(key) in self.file.metadata

    def text(self, key: str) -> str | None:
        """A string."""
        return self._of(key, str)

    def flag(self, key: str) -> bool | None:
        """A truth value."""
        return self._of(key, bool)

    def number(self, key: str) -> float | None:
        """A number."""
        value = self._single(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(key, value, "a number")
        return float(value)

    def whole(self, key: str) -> int | None:
        """A whole number of things, at least 0."""
        value = self._single(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
            raise self._wrong(key, value, "a whole number")
        return value

    def require(self, key: str, least: int = 1) -> int:
        """A whole number that must be there."""
        value = self.whole(key)
        if value is None or value < least:
            raise CheckpointError(f"{self.file.path}: the metadata has no {self.name(key)}, or it is {value}")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings, empty where there is none."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, "an array", "an array of strings")
        return values

    def numbers(self, key: str) -> list[float]:
        """A list of numbers, empty where there is none."""
        values = self._list(key)
        if not all(isinstance(value, int | float) for value in values):
            raise self._wrong(key, "an array", "an array of numbers")
        return values

    def _list(self, key: str) -> list[Any]:
        value = self.file.metadata.get(self.name(key))
        if value is None:
            return []
        if not isinstance(value, Array):
            raise self._wrong(key, value, "an array")
        return value.read()

    def _single(self, key: str) -> Any:
        """One value; an array of one value per layer that are all the same is that value."""
        value = self.file.metadata.get(self.name(key))
        if not isinstance(value, Array):
            return value
        values = value.read()
        if not values or any(one != values[0] for one in values):
            raise CheckpointError(
                f"{self.file.path}: {self.name(key)} differs from layer to layer, which is not supported"
            )
        return values[0]

    def _of(self, key: str, kind: type[T]) -> T | None:
        value = self.file.metadata.get(self.name(key))
        if value is None or isinstance(value, kind):
            return value
        raise self._wrong(key, value, {str: "a string", bool: "true or false"}[kind])

    def _wrong(self, key: str, value: object, wanted: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path}: {self.name(key)} is {value!r}, not {wanted}")
