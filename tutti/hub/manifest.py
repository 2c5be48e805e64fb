"""Manifests: what a stored model is made of. Their bytes are kept as they came, for their sha256 is the model's digest.

A manifest comes from a stranger. It is read within limits, a digest must be a digest (it becomes a file's name), a
size must be one a file can have, a layer's file name must be a plain relative path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tutti.errors import StoreError

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
IMAGE = "application/vnd.ollama.image."  # layers: + model, projector, adapter, template, system, params, ...

MAX_MANIFEST = 8 << 20  # bytes
MAX_SMALL = 16 << 20  # bytes of a layer that is read whole: templates, parameters, licenses, the config
_MAX_BLOB = 1 << 44  # bytes: 17 TB, more than any file system's file
_MAX_LAYERS = 50_000

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_FILE = re.compile(r"([A-Za-z0-9_][\w. -]*/){0,3}[A-Za-z0-9_][\w. -]*", re.ASCII)


def check_digest(text: str) -> str:
    """`text` as `sha256:<hex>`. Raises StoreError unless it is a digest."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise StoreError(f"invalid digest format: {text[:100]!r}")
    return f"sha256:{match[1]}"


def check_file_name(text: str) -> str:
    """`text`, if a layer's file may be called so: a plain relative path. Raises StoreError."""
    if _FILE.fullmatch(text) is None:
        raise StoreError(f"a layer's file cannot be called {text[:100]!r}")
    return text


def digest_of(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. `name` is a file's name for layers that are the files of a directory; else empty."""

    media_type: str
    digest: str
    size: int  # bytes
    name: str = ""

    @property
    def kind(self) -> str:
        """`model`, `template`, ...: the last word of an Ollama media type; else the media type."""
        return self.media_type.removeprefix(IMAGE)

    @property
    def short(self) -> str:
        """The first twelve digits of the digest, by which progress calls it."""
        return self.digest.removeprefix("sha256:")[:12]

    def as_json(self) -> dict[str, Any]:
        """The layer as manifests write it."""
        found = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return found | {"name": self.name} if self.name else found


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest with the bytes it was read from."""

    raw: bytes = field(repr=False)
    config: Layer | None
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """The sha256 of its bytes in hex, without a prefix: the model's digest, as `list` shows it."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(layer.size for layer in self.blobs())

    def blobs(self) -> Iterator[Layer]:
        """Every different blob, the layers first."""
        seen = set()
        for layer in (*self.layers, *(() if self.config is None else (self.config,))):
            if layer.digest not in seen:
                seen.add(layer.digest)
                yield layer

    def of_kind(self, kind: str) -> tuple[Layer, ...]:
        """The layers of a kind, in order."""
        return tuple(layer for layer in self.layers if layer.kind == kind)


class _Entry(msgspec.Struct, rename={"media_type": "mediaType"}):
    digest: str
    size: int
    media_type: str = ""
    name: str = ""


class _File(msgspec.Struct):
    layers: list[_Entry] | None = None
    config: _Entry | None = None


def read_manifest(raw: bytes) -> Manifest:
    """The manifest that `raw` is. Raises StoreError."""
    if len(raw) > MAX_MANIFEST:
        raise StoreError(f"a manifest of {len(raw)} bytes is none ({MAX_MANIFEST} at most)")
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise StoreError(f"this is no manifest: {error}") from error
    if not file.layers:
        raise StoreError("this is no manifest of a model: it has no layers")
    if len(file.layers) > _MAX_LAYERS:
        raise StoreError(f"a manifest with {len(file.layers)} layers is none ({_MAX_LAYERS} at most)")
    # Ollama writes an empty config into manifests of some old models.
    config = None if file.config is None or not file.config.digest else _layer(file.config)
    return Manifest(raw, config, tuple(_layer(entry) for entry in file.layers))


def write_manifest(config: Layer, layers: Sequence[Layer]) -> Manifest:
    """A manifest of our own making."""
    raw = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
    )
    return Manifest(raw, config, tuple(layers))


def _layer(entry: _Entry) -> Layer:
    if not 0 <= entry.size <= _MAX_BLOB:
        raise StoreError(f"a layer of {entry.size} bytes cannot be")
    name = check_file_name(entry.name) if entry.name else ""
    return Layer(entry.media_type, check_digest(entry.digest), entry.size, name)
