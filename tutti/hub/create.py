"""Creating: a Modelfile's commands become layers, a config and a manifest.

FROM is a model of the store (pulled now if it is not there), a `.gguf` file, a directory with one (or, without any,
with safetensors: its files become layers that keep their names), or `@sha256:...`, a blob of the store. Files that a
client sent before are blobs with names. What a GGUF file is, is told by `describe`, and fewer bits are made by a
quantizer, both of which the caller brings: this room reads no formats.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from tutti.errors import InvalidRequest, ModelfileError, ModelNotFound, StoreError
from tutti.hub.gguf import is_gguf, shard_names, shard_of
from tutti.hub.huggingface import PIPELINE, checkpoint_files
from tutti.hub.locks import Lease
from tutti.hub.manifest import (
    CONFIG_TYPE,
    IMAGE,
    Layer,
    Manifest,
    check_digest,
    check_file_name,
    digest_of,
    write_manifest,
)
from tutti.hub.model import PIPELINE_FORMAT
from tutti.hub.modelfile import Command, Modelfile
from tutti.hub.names import ModelName, parse_name
from tutti.hub.progress import Progress
from tutti.hub.pull import fetch_file, pull
from tutti.hub.registry import Options
from tutti.hub.shards import as_shards, shard_addresses
from tutti.hub.store import Store
from tutti.hub.views import show_files

T = TypeVar("T")

_NO_DIGEST = "0000000000000000000"  # what is not known yet, in Ollama's words


@dataclass(frozen=True, slots=True)
class Facts:
    """What a GGUF file says it is. `parameters` counts its elements; `kind` is model, projector or adapter."""

    architecture: str
    parameters: int
    file_type: str
    kind: str = "model"


Describe = Callable[[Path], Facts]


class Quantizer(Protocol):
    """Makes fewer bits of a model; `kind` is their type, as `Facts.file_type` says it."""

    @property
    def kind(self) -> str:
        """Q4_K_M and the like."""

    def __call__(self, source: Path, target: Path) -> AsyncGenerator[tuple[int, int], None]:
        """Write the model at `source`, a GGUF file or a directory, to the file `target`.

        Gives (bytes written, bytes in all) as it goes on.
        """


@dataclass(slots=True)
class _Draft:
    """The model that is being made."""

    layers: list[Layer] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def replace(self, kind: str, *layers: Layer) -> None:
        """Have these layers of a kind and no others."""
        self.layers = [layer for layer in self.layers if layer.kind != kind] + list(layers)


async def create(
    store: Store,
    name: str | ModelName,
    modelfile: Modelfile,
    describe: Describe,
    *,
    folder: Path | None = None,
    files: Mapping[str, str] | None = None,
    quantizer: Quantizer | None = None,
    options: Options | None = None,
) -> AsyncGenerator[Progress, None]:
    """Make the model `name`. Paths are relative to `folder`; without one, no file of the disk may be named.

    `files` are blobs of the store by the names that they have in the model: GGUF, or a checkpoint of safetensors.

    Raises InvalidModelName, ModelfileError, ModelNotFound, CheckpointError (what `describe` and the quantizer say),
    StoreError, OSError (a file that cannot be read), and what pulling raises.
    """
    name = parse_name(name)
    parameters = modelfile.parameters()  # what is wrong there is said before anything is copied
    lease = store.lease()
    try:
        maker = _Maker(store, lease, describe, folder)
        uploaded = maker.uploaded(files or {})
        for command in modelfile.all("from"):
            source = maker.path(command)
            if source is None and not command.value.startswith("@"):
                async with aclosing(_present(store, command.value, options)) as told:
                    async for progress in told:
                        yield progress
            if folder is not None:
                yield Progress("gathering model components")
            await asyncio.to_thread(maker.add_source, command, source)
        if uploaded:
            yield Progress("parsing GGUF" if maker.is_gguf(uploaded) else "gathering model components")
            await asyncio.to_thread(maker.add_files, uploaded)
        if quantizer is not None:
            async with aclosing(maker.quantize(quantizer)) as told:
                async for progress in told:
                    yield progress
        for layer in await asyncio.to_thread(maker.add_rest, modelfile, parameters):
            yield Progress(maker.status(layer))
        yield Progress("writing manifest")
        await asyncio.to_thread(store.write, name, maker.manifest())
    finally:
        lease.release()
    yield Progress("success")


async def pull_gguf(
    store: Store, name: ModelName, url: str, describe: Describe, options: Options | None = None
) -> AsyncGenerator[Progress, None]:
    """Make the model `name` of the GGUF file at `url`, the first of several where its name says so.

    Raises as `pull` and `create` do.
    """
    yield Progress("pulling manifest")
    lease = store.lease()
    try:
        digests: list[str] = []
        for place in shard_addresses(url):
            async with aclosing(fetch_file(store, place, lease, options)) as told:
                async for progress in told:
                    if isinstance(progress, Progress):
                        yield progress
                    else:
                        digests.append(progress.digest)
        names = shard_names("model", len(digests)) if len(digests) > 1 else ["model.gguf"]
        files = dict(zip(names, digests, strict=True))
        async with aclosing(create(store, name, Modelfile(()), describe, files=files)) as making:
            async for made in making:
                if made.status in ("writing manifest", "success"):
                    yield made
    finally:
        lease.release()


async def _present(store: Store, name: str, options: Options | None) -> AsyncGenerator[Progress, None]:
    """Have the model `name` in the store."""
    if store.find(parse_name(name)) is None:
        async with aclosing(pull(store, name, options)) as told:
            async for progress in told:
                if progress.status != "success":
                    yield progress


class _Maker:
    """Makes one model."""

    def __init__(self, store: Store, lease: Lease, describe: Describe, folder: Path | None) -> None:
        self._store = store
        self._lease = lease
        self._describe = describe
        self._folder = folder
        self._draft = _Draft()
        self._made: set[str] = set()  # digests of the small layers that were not here before

    def path(self, command: Command) -> Path | None:
        """The file or directory that a command names; None where it names none."""
        if self._folder is None:
            return None
        written = Path(command.value).expanduser()
        path = self._folder / written
        if path.exists():
            return path
        if command.value.startswith((".", "/", "~")) or written.suffix in (".gguf", ".safetensors"):
            raise _wrong(command, f"there is no file or directory {path}")
        return None

    def add_source(self, command: Command, source: Path | None) -> None:
        """What a FROM brings."""
        if source is not None and source.is_dir():
            files = {path.name: path for path in sorted(source.glob("*.gguf"))}
            self._add_files(command, files, self._file)
            if not files:
                self._add_directory(command, source)
        elif source is not None:
            files = {source.name: source}
            if shard := shard_of(source.name):
                beside = ((name, source.with_name(name)) for name in shard.names)
                files |= {name: path for name, path in beside if path.is_file()}
            self._add_files(command, files, self._file)
        elif command.value.startswith("@"):
            self._add_gguf(command, self._adopted(command))
        else:
            self._add_model(command.value)

    def uploaded(self, files: Mapping[str, str]) -> dict[str, Layer]:
        """The blobs that `files` (digests by name) are. Raises InvalidRequest, ModelNotFound."""
        found = {}
        for name, digest in sorted(files.items()):
            try:
                check_file_name(name)
            except StoreError as error:
                raise ModelfileError(f"file path must be relative: {name[:100]}") from error
            found[name] = self._blob(Command("from", digest))
        return found

    def is_gguf(self, uploaded: Mapping[str, Layer]) -> bool:
        """Whether there are GGUF files among these, by their content. Raises ModelfileError on both kinds at once."""
        found = any(is_gguf(self._store.blob(layer)) for layer in uploaded.values())
        if found and any(name.endswith(".safetensors") for name in uploaded):
            raise ModelfileError("mixed model file types: found both gguf and safetensors inputs")
        return found

    def add_files(self, uploaded: Mapping[str, Layer]) -> None:
        """What the files bring that a client sent."""
        if not self.is_gguf(uploaded):
            self._add_checkpoint(uploaded, "the files")
            return
        self._add_files(Command("from", "the files"), uploaded, lambda layer: layer)

    async def quantize(self, quantizer: Quantizer) -> AsyncGenerator[Progress, None]:
        """Put the model in fewer bits in the place of the one that is there, if it has not those already."""
        draft = self._draft
        models = [layer for layer in draft.layers if layer.kind == "model"]
        named = [layer for layer in draft.layers if layer.name]
        before = str(draft.config.get("file_type", ""))
        if not models and not named:
            raise ModelfileError("no FROM line names a model")
        if models and before == quantizer.kind:
            return
        status = f"quantizing {before or 'a'} model to {quantizer.kind}"
        with self._store.workshop() as folder:
            source = folder / "source"
            if named:
                show_files(self._store, named, source)
            if models:
                source = source / models[0].name if named else self._store.blob(models[0])
            target = folder / "model.gguf"
            async with aclosing(quantizer(source, target)) as steps:
                async for written, total in steps:
                    yield Progress(status, _NO_DIGEST, total, written)
            layer = await asyncio.to_thread(self._store.take, target, f"{IMAGE}model", self._lease)
        rest = [one for one in draft.layers if one not in models[:1] and not one.name]
        draft.layers = [layer, *rest]
        facts = self._describe(self._store.blob(layer))
        draft.config |= _model_config(facts)
        if named:
            draft.config["model_families"] = [facts.architecture]

    def status(self, layer: Layer) -> str:
        """What is said of a layer of the new model."""
        word = "creating new layer" if layer.digest in self._made else "using existing layer"
        return f"{word} {layer.digest}"

    def add_rest(self, modelfile: Modelfile, parameters: dict[str, Any]) -> list[Layer]:
        """What the other commands bring; all layers then."""
        draft = self._draft
        for command in modelfile.all("adapter"):
            self._add_adapter(command)
        for kind in ("template", "system"):
            for command in modelfile.all(kind)[-1:]:
                draft.replace(kind, *([self._text(kind, command.value)] if command.value else []))
        draft.layers += [self._text("license", command.value) for command in modelfile.all("license")]
        messages = [
            {"role": command.argument, "content": command.value} for command in modelfile.all("message")
        ]
        if messages:
            draft.replace("messages", self._json("messages", messages))
        draft.parameters |= parameters
        if draft.parameters:
            draft.replace("params", self._json("params", draft.parameters))
        for kind in ("renderer", "parser", "requires"):
            for command in modelfile.all(kind)[-1:]:
                draft.config[kind] = command.value
        return draft.layers

    def manifest(self) -> Manifest:
        """The manifest, its config put into the store."""
        draft = self._draft
        if not any(layer.kind in ("model", "tensor") for layer in draft.layers):
            raise ModelfileError("no FROM line names a model")
        config = {"architecture": "amd64", "os": "linux", **draft.config}
        config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in draft.layers]}
        return write_manifest(self._json(CONFIG_TYPE, config), draft.layers)

    def _add_model(self, name: str) -> None:
        """All that another model of the store has."""
        manifest = self._store.get(name).manifest
        self._store.keep(self._lease, *(layer.digest for layer in manifest.blobs()))
        for layer in manifest.blobs():
            if not self._store.adopt(layer):
                raise StoreError(
                    f"model '{name}' is not complete: blob {layer.digest} is absent; pull it again"
                )
        self._draft.layers += manifest.layers
        if manifest.config is not None:
            self._draft.config |= _object(self._store.read(manifest.config), name)
        for layer in manifest.of_kind("params"):
            self._draft.parameters |= _object(self._store.read(layer), name)

    def _add_files(self, command: Command, files: Mapping[str, T], layer_of: Callable[[T], Layer]) -> None:
        """GGUF files by their names, of which some may be shards of one model."""
        for name, file in files.items():
            shard = shard_of(name)
            if shard is None or shard.count == 1:
                self._add_gguf(command, layer_of(file))
                continue
            absent = [one for one in shard.names if one not in files]
            if absent:
                raise _wrong(
                    command, f"{len(absent)} of the {shard.count} files of {name} are missing: {absent[0]}"
                )
            if shard.number == 1:
                self._add_shards(command, [layer_of(files[one]) for one in shard.names])

    def _add_shards(self, command: Command, layers: Sequence[Layer]) -> None:
        """A model in several files."""
        shards = as_shards(layers)
        with self._store.workshop() as folder:
            show_files(self._store, shards, folder)
            facts = self._describe(folder / shards[0].name)
        self._draft.layers += shards
        self._tell(facts)

    def _add_gguf(self, command: Command, layer: Layer) -> None:
        facts = self._facts(command, layer)
        if facts.kind == "adapter":
            raise _wrong(
                command, "this file is an adapter; write ADAPTER before it, and the model after FROM"
            )
        kind = "projector" if facts.kind == "projector" else "model"
        self._draft.layers.append(Layer(IMAGE + kind, layer.digest, layer.size))
        self._tell(facts)

    def _tell(self, facts: Facts) -> None:
        """What the config says of a file."""
        config = self._draft.config
        families = [*config.get("model_families", []), facts.architecture]
        config["model_families"] = list(dict.fromkeys(families))
        if facts.kind == "model" and "model_format" not in config:
            config |= _model_config(facts)

    def _add_adapter(self, command: Command) -> None:
        path = self.path(command)
        if path is None and not command.value.startswith("@"):
            raise _wrong(command, f"there is no file {command.value}")
        if path is not None and path.is_dir():
            self._add_adapter_folder(command, path)
            return
        if path is not None and not path.is_file():
            raise _wrong(command, f"{path} is no file; an adapter is a GGUF file, or a folder of PEFT's")
        layer = self._adopted(command) if path is None else self._file(path)
        self._facts(command, layer)
        self._draft.layers.append(Layer(f"{IMAGE}adapter", layer.digest, layer.size))

    def _add_adapter_folder(self, command: Command, source: Path) -> None:
        """An adapter in PEFT's form: its two files as they are, in a folder of their own."""
        names = ("adapter_config.json", "adapter_model.safetensors")
        absent = [name for name in names if not (source / name).is_file()]
        if absent:
            raise _wrong(command, f"{source} is no adapter of PEFT's: it has no {' and no '.join(absent)}")
        number = sum(layer.kind == "adapter" for layer in self._draft.layers)
        for name in names:
            layer = self._store.put_file(
                source / name, f"{IMAGE}adapter", self._lease, f"adapter-{number}/{name}"
            )
            self._draft.layers.append(layer)

    def _add_directory(self, command: Command, source: Path) -> None:
        """A checkpoint in Hugging Face's form: its files as they are, under their names."""
        paths = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
        wanted = {name: paths[name] for name in checkpoint_files(paths)}
        if not _is_complete(wanted):
            raise _wrong(command, f"{source} has no GGUF file, and no config.json with *.safetensors")
        self._add_checkpoint({name: self._file(path) for name, path in wanted.items()}, str(source))

    def _add_checkpoint(self, files: Mapping[str, Layer], what: str) -> None:
        """The same of files that are blobs already; `what` they are called in errors."""
        wanted = {name: files[name] for name in checkpoint_files(files)}
        if not _is_complete(wanted):
            raise ModelfileError(f"{what} are neither GGUF nor a checkpoint: config.json with *.safetensors")
        for name, layer in wanted.items():
            kind = "tensor" if name.endswith((".safetensors", ".gguf")) else "json"
            self._draft.layers.append(Layer(IMAGE + kind, layer.digest, layer.size, name))
        draws = PIPELINE in wanted
        outline = _object(self._store.read(wanted[PIPELINE if draws else "config.json"]), what)
        family = str(outline.get("_class_name" if draws else "model_type", ""))
        self._draft.config |= {
            "model_format": PIPELINE_FORMAT if draws else "safetensors",
            "model_family": family,
            "model_families": [family],
            "model_type": "",
            "file_type": str(outline.get("dtype") or outline.get("torch_dtype") or ""),
        }

    def _facts(self, command: Command, layer: Layer) -> Facts:
        path = self._store.blob(layer)
        if not is_gguf(path):
            raise _wrong(command, f"{command.value} is no GGUF file")
        return self._describe(path)

    def _file(self, path: Path) -> Layer:
        """A file of the disk as a blob. One that is a blob of the store already is not copied first."""
        path = path.resolve()
        if path.parent.name == "blobs" and path.name.startswith("sha256-"):
            layer = Layer("", check_digest(path.name), path.stat().st_size)
            found = self._store.find_blob(layer)
            if found is not None and found.samefile(path):
                self._store.keep(self._lease, layer.digest)
                self._store.adopt(layer)
                return layer
        return self._store.put_file(path, "", self._lease)

    def _adopted(self, command: Command) -> Layer:
        """The blob that a command calls by its digest: `@sha256:...`."""
        return self._blob(replace(command, value=command.value.removeprefix("@")))

    def _blob(self, command: Command) -> Layer:
        """The blob whose digest is a command's value."""
        try:
            digest = check_digest(command.value)
        except StoreError as error:
            raise _wrong(command, error.message) from error
        self._store.keep(self._lease, digest)
        layer = self._store.find_digest(digest)
        if layer is None or not self._store.adopt(layer):
            raise ModelNotFound(f"blob {digest} is not in the store")
        return layer

    def _text(self, kind: str, text: str) -> Layer:
        return self._put(text.encode(), IMAGE + kind)

    def _json(self, kind: str, value: Any) -> Layer:
        media_type = kind if "/" in kind else IMAGE + kind
        return self._put(msgspec.json.encode(value, order="sorted"), media_type)

    def _put(self, data: bytes, media_type: str) -> Layer:
        if self._store.find_digest(digest_of(data)) is None:
            self._made.add(digest_of(data))
        return self._store.put(data, media_type, self._lease)


def _model_config(facts: Facts) -> dict[str, Any]:
    """What a GGUF file's facts are in a config."""
    return {
        "model_format": "gguf",
        "model_family": facts.architecture,
        "model_type": format_count(facts.parameters),
        "file_type": facts.file_type,
    }


def format_count(number: int) -> str:
    """A number of parameters as Ollama writes it: 7.6B, 494.03M, 12K."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if number >= size:
            return f"{number / size:.{0 if number % size == 0 else digits}f}{unit}"
    return str(number)


def _is_complete(names: Collection[str]) -> bool:
    """Whether these are enough for a checkpoint."""
    return not {"config.json", PIPELINE}.isdisjoint(names) and any(
        name.endswith(".safetensors") for name in names
    )


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{what}: what should be a JSON object is none: {error}") from error


def _wrong(command: Command, message: str) -> InvalidRequest:
    return ModelfileError(f"(line {command.line}): {message}" if command.line else message)
