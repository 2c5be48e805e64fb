"""From a model's name to the files of its checkpoint.

A name is, in this order: a packaged model (`pico`); a directory, or a GGUF file; a model of the store (`name[:tag]`,
`hf.co/user/repo:quant`, see `store`); a Hugging Face id (`organisation/name`, with `@revision` if wanted). So of two
that have the same name, what is nearer wins, and nothing is downloaded that is here. Anything else is `ModelNotFound`,
and the message says what was tried.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tutti.errors import CheckpointError, InvalidModelName, ModelNotFound
from tutti.hub.gguf import is_gguf
from tutti.hub.names import parse_name
from tutti.settings import Settings, read_settings

if TYPE_CHECKING:
    from tutti.hub.model import StoredModel
    from tutti.hub.store import Entry

# Models that come with the package, by name; each is a folder of tutti/assets.
PACKAGED = ("pico",)

_ASSETS = Path(__file__).resolve().parent.parent / "assets"
_HUGGING_FACE_ID = re.compile(r"(?P<repo>[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})(@(?P<revision>[\w./-]+))?")


def resolve_model(
    name: str,
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    without: Collection[str] = (),
) -> Path:
    """The directory that holds `name`'s checkpoint, or its GGUF file; a Hugging Face id is downloaded if it must be.

    `cache` overrides the folder of downloads (default: Hugging Face's own cache, so that other programs' downloads
    are found and ours are found by them). Of a pipeline's components `without` weights, these are not downloaded.
    Raises ModelNotFound, Unauthorized (gated or private) or CheckpointError (files are there but are no checkpoint).
    """
    settings = settings or read_settings()
    found = _local(name) or _stored(name, settings)
    if found is not None:
        return found
    from tutti.hub.huggingface import download

    repo, revision = _hugging_face_id(name)
    return _checked(download(repo, revision, settings, cache, without))


def stored_model(name: str, settings: Settings | None = None) -> StoredModel | None:
    """What the store says of the model that `name` resolves to; None where it is of another kind.

    Raises StoreError where a blob of it is absent or damaged.
    """
    from tutti.hub.model import read_model
    from tutti.hub.store import open_store

    entry = stored_entry(name, settings)
    return None if entry is None else read_model(open_store(settings), entry)


@contextmanager
def outline_model(
    name: str, settings: Settings | None = None, *, cache: Path | None = None
) -> Iterator[Path]:
    """A directory to make a plan of: `name`'s own where it is on this machine, else one without the weights' data.

    It is there while the context lasts. Raises as `resolve_model` does.
    """
    from tutti.hub.huggingface import downloaded, outline

    settings = settings or read_settings()
    found = _local(name) or _stored(name, settings)
    if found is None:
        repo, revision = _hugging_face_id(name)
        found = downloaded(repo, revision, cache)
    if found is not None:
        yield found
        return
    with TemporaryDirectory(prefix="tutti-outline-") as folder:
        yield _checked(outline(repo, revision, settings, Path(folder)))


def _local(name: str) -> Path | None:
    """The directory of a packaged model, or the directory or GGUF file that `name` is; None where it is neither."""
    if name in PACKAGED:
        return _packaged(name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return _checked(path)
    if is_gguf(path):
        return path
    if path.is_file():
        raise CheckpointError(
            f"{name} is a file, and not GGUF; a model is a directory with config.json, tokenizer.json and "
            "*.safetensors, or a GGUF file"
        )
    return None


def stored_entry(name: str, settings: Settings | None = None) -> Entry | None:
    """The model of the store that `name` means; None where it means something nearer, or nothing of the store."""
    from tutti.hub.store import open_store

    path = Path(name).expanduser()
    if name in PACKAGED or (name and path.is_dir()) or path.is_file():
        return None
    try:
        return open_store(settings).find(parse_name(name))
    except InvalidModelName:
        return None


def _stored(name: str, settings: Settings) -> Path | None:
    """The GGUF file of a model of the store, or a directory of its files; None where the store has no such model."""
    from tutti.hub.store import open_store
    from tutti.hub.views import checkpoint_of

    entry = stored_entry(name, settings)
    if entry is None:
        return None
    path = checkpoint_of(open_store(settings), entry)
    return _checked(path) if path.is_dir() else path


def hugging_face_id(name: str) -> tuple[str, str | None] | None:
    """The repository and the revision that `name` asks for; None where it is no such id."""
    match = None if name.startswith((".", "/", "~")) else _HUGGING_FACE_ID.fullmatch(name)
    return None if match is None else (match["repo"], match["revision"])


def _hugging_face_id(name: str) -> tuple[str, str | None]:
    """The same. Raises ModelNotFound."""
    found = hugging_face_id(name)
    if found is None:
        raise ModelNotFound(
            f"model {name!r} not found: it is no packaged model ({', '.join(PACKAGED)}), there is no directory "
            f"{str(Path(name).expanduser())!r}, the store has no such model (tutti list shows them, tutti pull gets "
            "one), and it is no Hugging Face id (organisation/name)"
        )
    return found


def _packaged(name: str) -> Path:
    path = _ASSETS / name
    if not (path / "config.json").is_file():
        raise ModelNotFound(
            f"model {name!r} comes with Tutti, but its files are absent; `make {name}` makes them anew"
        )
    return path


def _checked(path: Path) -> Path:
    """`path`, if it looks like a checkpoint. What is inside its files is for `formats` to judge."""
    if (path / "model_index.json").is_file():  # diffusers' format: components in folders of their own
        return path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path} has no config.json, so it is no checkpoint in Hugging Face's form")
    if not any(path.glob("*.safetensors")):
        raise CheckpointError(
            f"{path} has no *.safetensors; convert the weights first (transformers: save_pretrained), "
            "or choose a model published in that form"
        )
    return path
