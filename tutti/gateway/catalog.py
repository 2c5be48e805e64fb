"""Every model that a server of many can load: those of the store and those that come with Tutti.

What is told of them is read from manifests, small layers and the files' headers, once for each digest; no model is
loaded for it. Methods read files: not for an event loop.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutti.engine.placement import main_stage
from tutti.errors import CheckpointError, InvalidModelName, ModelNotFound, StoreError, TuttiError
from tutti.formats.checkpoint import Checkpoint, open_checkpoint
from tutti.formats.gguf.header import Array, Header, read_header
from tutti.formats.shapes import weight_shapes
from tutti.gateway.abilities import EMBEDDING, IMAGE, SOUND, VIDEO
from tutti.gateway.cards import Card, Sheet, Tensor, modelfile, type_name
from tutti.gateway.opening import brought
from tutti.graph import Graph, resolve
from tutti.hub.capabilities import capabilities, capabilities_of
from tutti.hub.create import format_count
from tutti.hub.model import StoredModel, parameter_lines, read_model
from tutti.hub.names import key_of, parse_name
from tutti.hub.resolve import PACKAGED, resolve_model
from tutti.hub.store import Entry, Store
from tutti.hub.views import checkpoint_of
from tutti.models.processor.template import load_templates
from tutti.models.registry import find_graph

log = logging.getLogger(__name__)

_KEPT = 512  # cards that are remembered
_SENSES = {"image": "vision", "audio": "audio"}


@dataclass(frozen=True, slots=True)
class _Folder:
    """A checkpoint in Hugging Face's form. `graph` is None where nothing here serves it."""

    checkpoint: Checkpoint
    graph: Graph | None
    template: str

    @property
    def capabilities(self) -> tuple[str, ...]:
        senses, outputs = ((), ()) if self.graph is None else (self.graph.inputs, self.graph.outputs)
        gives = tuple(word for word in (EMBEDDING, IMAGE, VIDEO, SOUND) if word in outputs)
        if "text" not in outputs and gives:
            return gives
        found = capabilities_of(self.template, [word for sense, word in _SENSES.items() if sense in senses])
        return (*found, *gives)

    @property
    def context(self) -> int:
        if self.graph is None:
            return 0
        return int(resolve(main_stage(self.graph).describe)(self.checkpoint.config).context)

    @property
    def quantization(self) -> str:
        config = self.checkpoint.config
        kind = self.checkpoint.quantization or str(config.get("dtype") or config.get("torch_dtype") or "")
        return type_name(kind)

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in weight_shapes(self.checkpoint).values())

    @property
    def facts(self) -> dict[str, Any]:
        """What GGUF files say of themselves."""
        family = self.family
        return {
            "general.architecture": family,
            "general.parameter_count": self.parameters,
            f"{family}.context_length": self.context,
        }

    @property
    def family(self) -> str:
        return str(self.checkpoint.config.get("model_type", ""))


class Catalog:
    """The models of `store`, and the packaged ones, which win where two have one name."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cards: dict[str, Card] = {}  # of stored models, by the digest
        self._own: dict[str, Card] = {}  # of packaged ones, by the name

    def cards(self) -> list[Card]:
        """All of them, the newest first. What cannot be read is passed over, with a warning."""
        found = [card for name in PACKAGED if (card := self._packaged(name)) is not None]
        taken = {key_of(card.name) for card in found}
        found += [self._stored(entry) for entry in self.store.entries() if entry.name.key not in taken]
        return sorted(found, key=lambda card: -card.created)

    def find(self, name: str) -> Card:
        """The model called `name`, whatever its case, with `:latest` or not. Raises ModelNotFound, StoreError."""
        key = key_of(name)
        for packaged in PACKAGED:
            if key == key_of(packaged) and (card := self._packaged(packaged)) is not None:
                return card
        try:
            return self._stored(self.store.get(parse_name(name)))
        except (InvalidModelName, ModelNotFound) as error:
            raise ModelNotFound(f"model '{name}' not found", param="model") from error

    def checkpoint(self, card: Card) -> Path:
        """The GGUF file or the directory behind a card. Raises ModelNotFound, StoreError."""
        if card.name in PACKAGED:
            return resolve_model(card.name)
        return checkpoint_of(self.store, self.store.get(card.name))

    def options(self, card: Card) -> dict[str, Any]:
        """What of `EngineOptions` the model says itself. Raises as `checkpoint` does."""
        if card.name in PACKAGED:
            return {"model": str(resolve_model(card.name))}
        entry = self.store.get(card.name)
        return {"model": str(checkpoint_of(self.store, entry)), **brought(read_model(self.store, entry))}

    def sheet(self, name: str) -> Sheet:
        """All that is known of the model called `name`. Raises ModelNotFound, StoreError, CheckpointError."""
        card = self.find(name)
        if card.name in PACKAGED:
            folder = _folder(resolve_model(card.name))
            text = modelfile(card.root, folder.template, ())
            return Sheet(card, text, folder.template, (), folder.facts, tensors=_tensors(folder.checkpoint))
        model = read_model(self.store, self.store.get(card.name))
        if model.model is None:
            folder = _folder(self.checkpoint(card))
            template, facts, tensors = folder.template, folder.facts, _tensors(folder.checkpoint)
        else:
            header = read_header(model.model)
            template, facts = str(header.metadata.get("tokenizer.chat_template", "")), _facts(header)
            tensors = [Tensor(one.name, one.kind, one.shape) for one in header.tensors]
        return Sheet(
            card,
            modelfile=str(model.modelfile()),
            template=model.template or template,
            parameters=parameter_lines(model.parameters),
            facts=facts,
            system=model.system,
            license="\n".join(model.licenses),
            messages=[(message.role, message.content) for message in model.messages],
            projector=_facts(read_header(model.projectors[0])) if model.projectors else {},
            tensors=tensors,
        )

    def _packaged(self, name: str) -> Card | None:
        if name not in self._own:
            try:
                path = resolve_model(name)
                folder = _folder(path)
            except TuttiError as error:
                log.warning("%s: %s", name, error)
                return None
            changed = (path / "config.json").stat().st_mtime
            checkpoint = folder.checkpoint
            bare = Card(name, name, changed, checkpoint.nbytes, checkpoint.fingerprint)
            self._own[name] = _of_folder(bare, folder)
        return self._own[name]

    def _stored(self, entry: Entry) -> Card:
        """The card of an entry: as far as it can be read, for a damaged model is still to be seen and removed."""
        digest = entry.manifest.digest
        known = self._cards.get(digest)
        if known is None:
            bare = Card(str(entry.name), str(entry.name), entry.modified, entry.manifest.size, digest)
            try:
                known = self._read(entry, bare)
            except (StoreError, CheckpointError) as error:
                log.warning("%s: %s", entry.name, error)
                return bare
            self._keep(known)
        return replace(known, name=str(entry.name), root=str(entry.name), created=entry.modified)

    def _read(self, entry: Entry, bare: Card) -> Card:
        model = read_model(self.store, entry)
        bare = replace(bare, preset=model.preset)
        if model.model is not None:
            return _of_file(bare, model, read_header(model.model))
        folder = _folder(checkpoint_of(self.store, entry))
        return _of_folder(bare, replace(folder, template=model.template or folder.template))

    def _keep(self, card: Card) -> None:
        while len(self._cards) >= _KEPT:
            self._cards.pop(next(iter(self._cards)), None)
        self._cards[card.digest] = card


def _folder(path: Path) -> _Folder:
    checkpoint = open_checkpoint(path)
    try:
        graph: Graph | None = find_graph(checkpoint.config, checkpoint.path)
    except CheckpointError:
        graph = None
    modalities = frozenset() if graph is None else frozenset(graph.inputs)
    return _Folder(checkpoint, graph, load_templates(path, None, {}, modalities).source)


def _of_folder(card: Card, folder: _Folder) -> Card:
    return replace(
        card,
        context=folder.context,
        format="safetensors",
        family=folder.family,
        families=(folder.family,),
        parameters=format_count(folder.parameters),
        quantization=folder.quantization,
        capabilities=folder.capabilities,
        outputs=("text",) if folder.graph is None else tuple(sorted(folder.graph.outputs)),
        remark="" if folder.graph is None else folder.graph.remark,
    )


def _of_file(card: Card, model: StoredModel, header: Header) -> Card:
    """What the model's config says counts before what its file says."""
    config = model.config
    family = config.model_family or header.architecture
    return replace(
        card,
        context=int(header.of_architecture("context_length") or 0),
        format=config.model_format or "gguf",
        family=family,
        families=tuple(config.model_families or (family,)),
        parameters=config.model_type or format_count(header.parameters),
        quantization=config.file_type or header.file_type,
        capabilities=capabilities(model, header.metadata),
    )


def _facts(header: Header) -> dict[str, Any]:
    """The metadata; arrays that are too long to be read are empty ones, as Ollama shows them."""
    found = {key: [] if isinstance(value, Array) else value for key, value in header.metadata.items()}
    return found | {"general.parameter_count": header.parameters}


def _tensors(checkpoint: Checkpoint) -> list[Tensor]:
    return [
        Tensor(name, type_name(info.dtype), tuple(info.shape)) for name, info in checkpoint.tensors.items()
    ]
