"""A stored model read: its small layers as values, and the Modelfile that would make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tutti.errors import StoreError
from tutti.hub.manifest import Layer
from tutti.hub.modelfile import Command, Modelfile
from tutti.hub.store import Entry, Store
from tutti.hub.views import adapters_of, checkpoint_of
from tutti.settings import Preset

PIPELINE_FORMAT = "diffusers"  # the `model_format` of a folder whose components have folders of their own


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config blob: what kind of model it is. `model_type` is its size ("7.6B"), `file_type` its quantization."""

    model_format: str = ""
    model_family: str = ""
    model_families: list[str] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    architecture: str = "amd64"
    os: str = "linux"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that conversations with the model begin with."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What the small layers say. Paths are of blobs; `parameters` are as they are stored, lists for repeated ones."""

    entry: Entry
    config: Config
    model: Path | None
    projectors: tuple[Path, ...]
    adapters: tuple[Path, ...]
    template: str
    system: str
    parameters: Mapping[str, Any]
    messages: tuple[Message, ...]
    licenses: tuple[str, ...]

    @property
    def prompt_template(self) -> str | None:
        """The template that prompts the model, in Go's language; None where its file's own does.

        A model with a renderer has a template that says nothing: Ollama prompts it by code of its own.
        """
        return self.template if self.template and not self.config.renderer else None

    @property
    def preset(self) -> Preset:
        """What conversations with it begin with, and how it is asked."""
        said = tuple({"role": message.role, "content": message.content} for message in self.messages)
        return Preset(self.system, said, dict(self.parameters))

    def modelfile(self) -> Modelfile:
        """The Modelfile that makes this model again, on this machine."""
        commands = [Command("from", str(self.model or self.entry.name))]
        commands += [Command("from", str(path)) for path in self.projectors]
        commands += [Command("adapter", str(path)) for path in self.adapters]
        commands += [Command("template", self.template)] if self.template else []
        commands += [Command("system", self.system)] if self.system else []
        commands += [
            Command(name, value)
            for name, value in (
                ("renderer", self.config.renderer),
                ("parser", self.config.parser),
                ("requires", self.config.requires),
            )
            if value
        ]
        commands += [Command("parameter", value, name) for name, value in parameter_lines(self.parameters)]
        commands += [Command("license", text) for text in self.licenses]
        commands += [Command("message", message.content, message.role) for message in self.messages]
        return Modelfile(tuple(commands))


def read_model(store: Store, entry: Entry) -> StoredModel:
    """The model of an entry. Raises StoreError where a blob is absent or not what it should be."""
    manifest = entry.manifest

    def texts(kind: str) -> list[str]:
        return [store.read(layer).decode(errors="replace") for layer in manifest.of_kind(kind)]

    def paths(kind: str) -> tuple[Path, ...]:
        return tuple(store.blob(layer) for layer in manifest.of_kind(kind))

    models = manifest.of_kind("model")
    spare = [layer for layer in models if not layer.name][0 if models and models[0].name else 1 :]
    messages: list[Message] = []
    for layer in manifest.of_kind("messages"):
        messages += _decoded(store, layer, list[Message])
    parameters: dict[str, Any] = {}
    for layer in manifest.of_kind("params"):
        parameters |= _decoded(store, layer, dict[str, Any])
    return StoredModel(
        entry,
        Config() if manifest.config is None else _decoded(store, manifest.config, Config),
        _weights(store, entry),
        tuple(map(store.blob, spare)) + paths("projector"),
        adapters_of(store, entry),
        "".join((texts("template") + texts("prompt"))[-1:]),
        "".join(texts("system")[-1:]),
        parameters,
        tuple(messages),
        tuple(texts("license")),
    )


def _weights(store: Store, entry: Entry) -> Path | None:
    """The GGUF file of a model, or the first of several. Raises StoreError."""
    models = entry.manifest.of_kind("model")
    if not models:
        return None
    return checkpoint_of(store, entry) if models[0].name else store.blob(models[0])


def parameter_lines(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) as a Modelfile writes them, one for every value of a repeated parameter, in the names' order."""
    found = []
    for name in sorted(parameters):
        value = parameters[name]
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        found += [(name, _written(one)) for one in values]
    return found


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _decoded(store: Store, layer: Layer, kind: Any) -> Any:
    try:
        return msgspec.json.decode(store.read(layer), type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"blob {layer.digest} ({layer.kind}) cannot be read: {error}") from error
