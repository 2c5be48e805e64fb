"""A model in several GGUF files: NAME-00001-of-00003.gguf has the metadata, all of them have tensors. No torch."""

from __future__ import annotations

from pathlib import Path

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.reader import GGUFFile, Place, read_gguf
from tutti.hub.gguf import MOST, shard_of


def read_model(path: Path) -> GGUFFile:
    """The GGUF file `path` with the tensors of its parts, if it is the first of several.

    Raises as `read_gguf` does, and CheckpointError where a part is missing, is of another model, or is not the first.
    """
    file = read_gguf(path)
    count = Keys(file).whole("split.count") or 1
    if count > 1:
        file.tensors = _collected(file, count)
    return file


def _collected(first: GGUFFile, count: int) -> dict[str, Place]:
    """The tensors of all parts. Raises CheckpointError."""
    path, number = first.path, Keys(first).whole("split.no") or 0
    named = shard_of(path.name)
    if count > MOST:
        raise CheckpointError(f"{path} says that it is one of {count} parts; {MOST} are possible")
    if named is None or named.count != count:
        raise CheckpointError(
            f"{path} is one of {count} parts, which are found by their names: it must be called "
            f"NAME-{number + 1:05}-of-{count:05}.gguf, beside the others"
        )
    names = named.names
    if number != 0 or path.name != names[0]:
        raise CheckpointError(f"{path} is part {number + 1} of {count}; give the first one, {names[0]}")
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{path}: {len(absent)} of {count} parts are missing ({', '.join(absent[:3])}); fetch them into its folder"
        )
    found = dict(first.tensors)
    for index, name in enumerate(names[1:], 1):
        part = read_gguf(path.parent / name)
        keys = Keys(part)
        if (keys.whole("split.no"), keys.whole("split.count")) != (index, count):
            raise CheckpointError(
                f"{part.path} does not say that it is part {index + 1} of {count}; fetch it again"
            )
        twice = found.keys() & part.tensors.keys()
        if twice:
            raise CheckpointError(f"{part.path}: the tensor {min(twice)!r} is in another part, too")
        found |= part.tensors
    wanted = Keys(first).whole("split.tensors.count")
    if wanted is not None and wanted != len(found):
        raise CheckpointError(
            f"{path}: the parts have {len(found)} tensors where there should be {wanted}; they are not of one model"
        )
    return found
