"""The store: models on this machine's disk, in Ollama's layout.

    manifests/<host>/<namespace>/<model>/<tag>     what a model is made of, byte for byte as it came
    blobs/sha256-<hex>                             its parts; a blob belongs to every manifest that names it
    blobs/sha256-<hex>-partial, -partial.json      a download that is not complete, and how far each part of it is
    .locks/  .tmp/  .views/                        ours; Ollama passes them over

Which folder that is:

- `TUTTI_MODELS`, or else `OLLAMA_MODELS`: who names a folder means it, so it is read and written, be it Ollama's or
  not.
- Otherwise `~/.tutti/models`. Ollama's own folders (`~/.ollama/models`, and that of its Linux service) are read as well
  if they exist: their models are listed, shown and run as they lie. They are never written. What we need of them for a
  model of ours (a copy, a creation, a pull that finds its blobs there) becomes ours by a hard link, or by a copy where
  they lie on another disk, so that nothing here breaks when Ollama removes something. A name that is in both is ours.

Every change is one rename, so a reader sees the old or the new. Manifests and blobs are named by checked names and
checked digests only (`names`, `manifest`): nothing is ever written outside. Two processes may work on one store at
once (`locks`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tutti.errors import ModelNotFound, StoredElsewhere, StoreError, TuttiError
from tutti.hub.locks import Lease, exclusive, leased
from tutti.hub.manifest import MAX_SMALL, Layer, Manifest, check_digest, digest_of, read_manifest
from tutti.hub.names import ModelName, name_of_path, parse_name
from tutti.settings import Settings, format_size, read_settings

_CHUNK = 4 << 20  # bytes copied and hashed at once
_PARTIAL_AGE = 7 * 24 * 3600.0  # seconds after which nobody comes back for a download that was cut
_BLOB_AGE = 3600.0  # seconds after which a blob that no manifest names is nobody's
_TEMPORARY_AGE = 60.0  # seconds

log = logging.getLogger("tutti.hub")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored model. `modified` is in seconds since the epoch; `foreign`: it lies in a folder that is only read."""

    name: ModelName
    manifest: Manifest
    modified: float
    path: Path
    foreign: bool


class Store:
    """The models below `root`, and those of the `foreign` folders. Values of it hold no files open."""

    def __init__(self, root: Path, foreign: tuple[Path, ...] = ()) -> None:
        self.root = root
        self.foreign = foreign
        self.locks = root / ".locks"

    # Reading

    def entries(self) -> list[Entry]:
        """All models, the newest first. A manifest that cannot be read is passed over, with a warning."""
        found: dict[str, Entry] = {}
        for root in self._roots():
            for name, path in _manifests(root):
                if name.key in found:
                    continue
                try:
                    found[name.key] = self._entry(name, path)
                except TuttiError as error:
                    log.warning("%s: %s", path, error)
        return sorted(found.values(), key=lambda entry: (-entry.modified, str(entry.name)))

    def find(self, name: ModelName) -> Entry | None:
        """The model called `name` (whatever its case), None if there is none. Raises StoreError on a damaged one."""
        for root in self._roots():
            path = _manifest_path(root, name)
            if path is not None:
                return self._entry(_named(root, path), path)
        return None

    def get(self, name: str | ModelName) -> Entry:
        """The model called `name`. Raises InvalidModelName, ModelNotFound, StoreError."""
        entry = self.find(parse_name(name))
        if entry is None:
            raise ModelNotFound(f"model '{name}' not found")
        return entry

    def blob_path(self, digest: str) -> Path:
        """Where the blob lies, or would, in our folder."""
        return self.root / "blobs" / check_digest(digest).replace(":", "-")

    def find_blob(self, layer: Layer) -> Path | None:
        """The file of a layer, ours or foreign; None where it is absent or of another size."""
        file = check_digest(layer.digest).replace(":", "-")
        for root in self._roots():
            path = root / "blobs" / file
            if path.is_file() and path.stat().st_size == layer.size:
                return path
        return None

    def find_digest(self, digest: str) -> Layer | None:
        """The blob `digest`, ours or foreign, as a layer of no media type yet; None where it is absent."""
        file = check_digest(digest).replace(":", "-")
        for root in self._roots():
            path = root / "blobs" / file
            if path.is_file():
                return Layer("", check_digest(digest), path.stat().st_size)
        return None

    def blob(self, layer: Layer) -> Path:
        """The file of a layer. Raises StoreError where it is absent."""
        path = self.find_blob(layer)
        if path is None:
            raise StoreError(f"blob {layer.digest} is not in the store; pull the model again")
        return path

    def read(self, layer: Layer) -> bytes:
        """The content of a small layer (a template, parameters, ...). Raises StoreError."""
        if layer.size > MAX_SMALL:
            raise StoreError(f"{layer.kind} of {format_size(layer.size)} is too large to be read")
        return self.blob(layer).read_bytes()

    # Writing

    def lease(self) -> Lease:
        """A promise that blobs which no manifest names yet will be named: collections spare them."""
        with self._locked():
            return Lease(self.locks)

    def keep(self, lease: Lease, *digests: str) -> None:
        """Add `digests` to a lease, before it is looked whether they are here."""
        with self._locked():
            lease.add(digests)

    def adopt(self, layer: Layer) -> bool:
        """Whether the layer's blob is in our folder, brought there from a foreign one if it can be."""
        path = self.find_blob(layer)
        if path is None:
            return False
        own = self.blob_path(layer.digest)
        if path == own:
            return True
        with writing(self.root):
            own.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary = own.with_name(f"{own.name}-{uuid.uuid4().hex}")
                os.link(path, temporary)
                os.replace(temporary, own)
                temporary.unlink(missing_ok=True)  # a rename onto the same file does nothing
                return True
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK):
                    raise
        return self._copied(path, layer)

    def put(self, data: bytes, media_type: str, lease: Lease) -> Layer:
        """`data` as a blob of the given media type, which `lease` keeps."""
        layer = Layer(media_type, digest_of(data), len(data))
        self.keep(lease, layer.digest)
        if not self.adopt(layer):
            with self.temporary() as (file, path):
                file.write(data)
                file.flush()
                self.settle(path, layer.digest)
        return layer

    def put_file(self, source: Path, media_type: str, lease: Lease, name: str = "") -> Layer:
        """A copy of the file `source` as a blob, which `lease` keeps.

        Raises StoreError; a source that cannot be read is an OSError.
        """
        sha, size = hashlib.sha256(), 0
        with source.open("rb") as given, self.temporary() as (file, path):
            self.check_space(os.fstat(given.fileno()).st_size)
            while data := given.read(_CHUNK):
                sha.update(data)
                file.write(data)
                size += len(data)
            file.flush()
            layer = Layer(media_type, f"sha256:{sha.hexdigest()}", size, name)
            self.keep(lease, layer.digest)
            if not self.adopt(layer):
                self.settle(path, layer.digest)
        return layer

    def take(self, path: Path, media_type: str, lease: Lease) -> Layer:
        """The file at `path`, which lies on the store's disk, as a blob, which `lease` keeps: it is moved there."""
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        layer = Layer(media_type, digest, path.stat().st_size)
        self.keep(lease, digest)
        if not self.adopt(layer):
            self.settle(path, digest)
        return layer

    def _copied(self, source: Path, layer: Layer) -> bool:
        """Copy a foreign blob that cannot be linked; False if it is not what its name says."""
        sha = hashlib.sha256()
        with source.open("rb") as given, self.temporary() as (file, path):
            self.check_space(layer.size)
            while data := given.read(_CHUNK):
                sha.update(data)
                file.write(data)
            file.flush()
            if f"sha256:{sha.hexdigest()}" != layer.digest:
                return False
            self.settle(path, layer.digest)
        return True

    @contextmanager
    def temporary(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A file of our own on the store's disk, to be written and then settled; without that, it goes."""
        with writing(self.root):
            path = self.root / ".tmp" / uuid.uuid4().hex
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # while this lasts, it is no garbage
                try:
                    yield file, path
                finally:
                    path.unlink(missing_ok=True)

    @contextmanager
    def workshop(self) -> Iterator[Path]:
        """A folder of our own on the store's disk, which goes with all that is in it."""
        with writing(self.root):
            path = self.root / ".tmp" / uuid.uuid4().hex
            path.mkdir(parents=True)
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # as for a file
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)

    def settle(self, path: Path, digest: str) -> None:
        """Make the complete file at `path` the blob `digest`, safely on the disk."""
        with writing(self.root):
            own = self.blob_path(digest)
            own.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.chmod(0o644)
            os.replace(path, own)

    def write(self, name: ModelName, manifest: Manifest) -> Entry:
        """`name` is this manifest from now on; blobs that only its old one had go.

        The caller has a lease on the blobs. Raises StoreError unless all of them are here.
        """
        for layer in manifest.blobs():
            if not self.adopt(layer):
                raise StoreError(f"blob {layer.digest} is not in the store")
        with self._locked(), self.temporary() as (file, path):
            kept = _manifest_path(self.root, name)
            before = None if kept is None else _readable(kept)
            place = self.root / "manifests" / name.path if kept is None else kept
            place.parent.mkdir(parents=True, exist_ok=True)
            file.write(manifest.raw)
            file.flush()
            os.fsync(file.fileno())
            path.chmod(0o644)
            os.replace(path, place)
        if before is not None and before.raw != manifest.raw:
            self.collect(before)
        return self.get(name)

    def copy(self, source: str, destination: str) -> None:
        """Give the model `source` a second name. Raises InvalidModelName, ModelNotFound, StoreError."""
        target, entry = parse_name(destination), self.get(source)
        lease = self.lease()
        try:
            self.keep(lease, *(layer.digest for layer in entry.manifest.blobs()))
            self.write(target, entry.manifest)
        finally:
            lease.release()

    def delete(self, name: str) -> None:
        """Remove a model and the blobs that only it had. Raises InvalidModelName, ModelNotFound, StoreError."""
        entry = self.get(name)
        if entry.foreign:
            root = next(root for root in self.foreign if entry.path.is_relative_to(root))
            raise StoredElsewhere(
                f"model '{name}' lies in Ollama's folder {root}, which is only read: "
                f"remove it there (ollama rm), or set TUTTI_MODELS={root}"
            )
        with self._locked(), writing(self.root):
            entry.path.unlink(missing_ok=True)
            _remove_empty(entry.path.parent, self.root / "manifests")
        self.collect(entry.manifest)

    def collect(self, gone: Manifest | None = None) -> int:
        """Remove blobs that no manifest names and nobody is about to name; the bytes that got free.

        Those of `gone`, whose name was just taken from it, go at once; others when they have lain for an hour: Ollama
        may be pulling into the same folder, and it takes no leases. A manifest that cannot be read might name any blob:
        where there is one, nothing is removed.
        """
        freed, at_once = 0, {layer.digest for layer in gone.blobs()} if gone is not None else set()
        with self._locked(), writing(self.root):
            kept, views = leased(self.locks), set()
            for _, path in _manifests(self.root):
                try:
                    manifest = read_manifest(path.read_bytes())
                except StoreError as error:
                    log.warning("%s: %s; no blobs are removed while it is there", path, error)
                    return 0
                kept.update(layer.digest for layer in manifest.blobs())
                views.add(manifest.digest)
            for path in _files(self.root / "blobs"):
                if _is_garbage(path, kept, at_once):
                    freed += path.stat().st_size
                    path.unlink(missing_ok=True)
            for path in (self.root / ".tmp").glob("*"):
                _remove_abandoned(path)
            for path in (self.root / ".views").glob("*"):
                if path.name.removesuffix("-adapters") not in views:
                    shutil.rmtree(path, ignore_errors=True)
        return freed

    def check_space(self, needed: int) -> None:
        """Raises StoreError unless the disk has room for `needed` bytes more."""
        free = shutil.disk_usage(_existing(self.root)).free
        if needed > free:
            raise StoreError(
                f"no space left on device: {self.root} needs {format_size(needed)} more and its disk has "
                f"{format_size(free)}; free some (tutti rm MODEL), or set TUTTI_MODELS to a folder on another disk"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with exclusive(self.locks / "store"):
            yield

    def _roots(self) -> tuple[Path, ...]:
        return (self.root, *self.foreign)

    def _entry(self, name: ModelName, path: Path) -> Entry:
        try:
            modified, raw = path.stat().st_mtime, path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        return Entry(name, read_manifest(raw), modified, path, not path.is_relative_to(self.root))


def open_store(settings: Settings | None = None) -> Store:
    """The store that the settings name."""
    settings = settings or read_settings()
    return Store(settings.models_path, settings.foreign_models)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """What the operating system says against writing below `root`, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space left on device: the disk of {root} is full. What has been downloaded is kept: free some "
                "space (tutti rm MODEL) and repeat the command, or set TUTTI_MODELS to a folder on another disk"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(
                f"{root} cannot be written ({error.strerror}); TUTTI_MODELS names another folder"
            ) from error
        raise


def _manifests(root: Path) -> Iterator[tuple[ModelName, Path]]:
    """(name, file) of every manifest below a root."""
    folder = root / "manifests"
    try:
        paths = sorted(folder.glob("*/*/*/*"))
    except PermissionError:
        return
    for path in paths:
        name = name_of_path(PurePosixPath(path.relative_to(folder)))
        if name is not None and path.is_file():
            yield name, path


def _manifest_path(root: Path, name: ModelName) -> Path | None:
    """The manifest of `name`, its case as it was written; None where there is none."""
    path = root / "manifests" / name.path
    try:
        if path.is_file():
            return path
    except PermissionError:
        return None
    return next((path for other, path in _manifests(root) if other.key == name.key), None)


def _readable(path: Path) -> Manifest | None:
    """The manifest at `path`; None where it is damaged."""
    try:
        return read_manifest(path.read_bytes())
    except StoreError:
        return None


def _named(root: Path, path: Path) -> ModelName:
    name = name_of_path(PurePosixPath(path.relative_to(root / "manifests")))
    assert name is not None  # it was found by its name
    return name


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.is_file()]


def _is_garbage(path: Path, kept: set[str], at_once: set[str]) -> bool:
    """Whether a file among the blobs may go. Downloads that were cut stay a week: somebody may go on with them."""
    stem, is_partial, _ = path.name.partition("-partial")
    digest = stem.replace("-", ":", 1)
    if digest in kept:
        return False
    age = time.time() - path.stat().st_mtime
    return age > _PARTIAL_AGE if is_partial else digest in at_once or age > _BLOB_AGE


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file or folder whose writer is gone. A young one may just be about to be locked."""
    try:
        if time.time() - path.stat().st_mtime < _TEMPORARY_AGE:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer was faster
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and those above it, up to `top`, as far as they are empty."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
