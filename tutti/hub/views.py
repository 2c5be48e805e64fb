"""What an engine opens of a stored model: the blob of its GGUF file, or a directory that shows its files by name.

A model that was made of a directory has a layer for each file, and so has one in several GGUF files; a projector that
sees for a model lies beside it. The directory that shows them is one of links into the blobs, below `.views` in the
store; it is made when it is first asked for and goes when the model goes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tutti.errors import StoreError
from tutti.hub.gguf import projector_name
from tutti.hub.locks import exclusive
from tutti.hub.manifest import Layer
from tutti.hub.store import Entry, Store, writing


def checkpoint_of(store: Store, entry: Entry) -> Path:
    """The GGUF file (the first of several) or the directory of a model. Raises StoreError where a blob is absent."""
    models = _seen(entry)
    if models and not models[0].name:
        return store.blob(models[0])
    rest = [layer for layer in entry.manifest.layers if layer.name and layer.kind not in ("adapter", "model")]
    named = [*models, *rest]
    if not named:
        raise StoreError(f"model '{entry.name}' has no weights: no layer of its manifest holds any")
    folder = _view(store, store.root / ".views" / entry.manifest.digest, named)
    return folder / models[0].name if models else folder


def _seen(entry: Entry) -> Sequence[Layer]:
    """The layers of a model's GGUF files; where they are several, under the names by which they find each other."""
    models, projectors = entry.manifest.of_kind("model"), entry.manifest.of_kind("projector")
    if not models or not projectors:
        return models
    shown = models if models[0].name else (replace(models[0], name="model.gguf"),)
    return (*shown, replace(projectors[0], name=projector_name("model")))


def adapters_of(store: Store, entry: Entry) -> tuple[Path, ...]:
    """The adapters of a model: GGUF files, and directories of PEFT's. Raises StoreError where a blob is absent."""
    layers = entry.manifest.of_kind("adapter")
    named = [layer for layer in layers if layer.name]
    found = [store.blob(layer) for layer in layers if not layer.name]
    if named:
        folder = _view(store, store.root / ".views" / f"{entry.manifest.digest}-adapters", named)
        found += [folder / name for name in dict.fromkeys(layer.name.partition("/")[0] for layer in named)]
    return tuple(found)


def _view(store: Store, folder: Path, named: Sequence[Layer]) -> Path:
    """`folder`, which shows these layers by their names."""
    with exclusive(store.locks / "store"), writing(store.root):
        if not _complete(folder, len(named)):
            shutil.rmtree(folder, ignore_errors=True)
            show_files(store, named, folder)
    return folder


def show_files(store: Store, layers: Iterable[Layer], folder: Path) -> None:
    """Fill `folder` with links to the blobs of `layers`, by the names of their files. Raises StoreError."""
    for layer in layers:
        link = folder / layer.name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(store.blob(layer).absolute(), link)


def _complete(folder: Path, count: int) -> bool:
    """Whether a directory made before shows as many files, all of which are there."""
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    return len(links) == count and all(link.exists() for link in links)
