"""A model as data: a graph of stages joined by edges.

A family's folder holds one frozen `Graph`; nothing here runs anything. The engine reads it, prunes it to what a
request needs, and builds its stages. Functions are named by `"module:function"` strings and imported at the moment of
need, so that reading every graph there is costs no import of torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The three ways a stage advances. These three are the whole engine."""

    AUTOREGRESS = "autoregress"  # one or more tokens a step, paged KV cache
    DENOISE = "denoise"  # one sampler step a step
    ONCE = "once"  # one pass over an item or a window of it


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a graph.

    `build` names `(checkpoint, options: BuildOptions) -> model` (the model's protocol depends on the kind, see
    `engine.protocols`); `describe` names `(config: dict) -> StageShape`. `output` is the modality that leaves the
    graph here ("text", "audio", ...), or None for an inner stage. `inputs` are the modalities of the request's parts
    that this stage takes; empty when only edges feed it. `weights` are how the names of its tensors in the checkpoint
    begin; a stage that says so can be put on a device of its own. A `late` stage is built when the first request needs
    it; one edge feeds it.
    """

    name: str
    kind: Kind
    build: str
    describe: str
    output: str | None = None
    inputs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    late: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """What `source` emits, turned by `bridge` into what `destination` takes.

    `bridge` names `(source: Checkpoint, destination model) -> bridge`, called once, where the destination is; the
    source may be elsewhere, in another process even, and the model of a late destination is None. The bridge is
    `(chunk: Chunk, state: dict) -> Chunk | None`, `state` being the edge's memory for one request, with the `Request`
    itself under "request". Without a bridge, chunks pass as they are. A final chunk of `Nothing` says that the request
    goes on without the destination. `prompt`: whether rows of the prompt are wanted of a source that writes; without,
    those of its answer are enough.
    """

    source: str
    destination: str
    bridge: str | None = None
    prompt: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """A model family's topology. `architectures` are the names in a checkpoint's config.json that it serves.

    `media` names `(folder: Path, config: dict) -> MediaReader`, which turns media into what the stages take (see
    `models.processor.media`); None for a model that takes text only. `narrator` names
    `(folder: Path, config: dict) -> Narrator`, which says how a text is read aloud (see `models.processor.narrator`);
    None for a model that does not speak. `drawer` names `(name: str, config: dict) -> Drawer`, which says what may be
    asked of a model that draws and is called so (see `models.processor.drawer`). `folders` are those beside config.json
    with weights that stages open. `switch` is a key of config.json: where that is false, the checkpoint has what text
    needs and no more. `claims` names `(config: dict) -> bool`, which says of a checkpoint that no graph's
    `architectures` name whether this graph serves it; a graph that has it is a last resort, and `remark` says how it
    serves, for people.
    """

    name: str
    architectures: tuple[str, ...]
    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...] = ()
    media: str | None = None
    narrator: str | None = None
    drawer: str | None = None
    folders: tuple[str, ...] = ()
    switch: str | None = None
    claims: str | None = None
    remark: str = ""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"graph {self.name}: two stages share a name in {names}")
        for edge in self.edges:
            for end in (edge.source, edge.destination):
                if end not in names:
                    raise ValueError(
                        f"graph {self.name}: edge {edge.source}->{edge.destination}: no stage {end!r}"
                    )

    def stage(self, name: str) -> Stage:
        """The stage called `name`. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def prune(self, modalities: tuple[str, ...], inputs: tuple[str, ...] = ("text",)) -> Graph:
        """The part of the graph a request needs.

        Kept: the stages from which a wanted output can be reached, less those that start from an input the request
        does not have. A request that wants text alone never runs the talker.
        """
        wanted = set(self.givers(modalities))
        frontier = list(wanted)
        while frontier:
            name = frontier.pop()
            for edge in self.edges:
                if edge.destination == name and edge.source not in wanted:
                    wanted.add(edge.source)
                    frontier.append(edge.source)
        idle = {stage.name for stage in self.stages if stage.inputs and not set(stage.inputs) & set(inputs)}
        kept = wanted - idle
        return replace(
            self,
            stages=tuple(stage for stage in self.stages if stage.name in kept),
            edges=tuple(edge for edge in self.edges if edge.source in kept and edge.destination in kept),
        )

    @property
    def reader(self) -> Stage | None:
        """The stage whose hidden states are vectors of prompts where no stage is made for that: the one that writes."""
        if "embedding" in self.outputs:
            return None
        writers = (
            stage for stage in self.stages if stage.kind is Kind.AUTOREGRESS and "text" in stage.inputs
        )
        return next((stage for stage in writers if stage.output == "text"), None)

    def givers(self, modalities: tuple[str, ...]) -> frozenset[str]:
        """The names of the stages that give what is wanted."""
        found = {stage.name for stage in self.stages if stage.output in modalities}
        if "embedding" in modalities and self.reader is not None:
            found.add(self.reader.name)
        return frozenset(found)

    def silent(self) -> Graph:
        """The graph of a checkpoint that writes and does not speak."""
        return replace(self.prune(tuple(self.outputs - {"audio"}), tuple(self.inputs)), narrator=None)

    def without(self, name: str) -> Graph:
        """The graph without the stage `name`, and without those that only it feeds."""
        gone = {name}
        for _ in self.stages:
            fed = {edge.destination for edge in self.edges if edge.source in gone}
            fed -= {edge.destination for edge in self.edges if edge.source not in gone}
            gone |= {stage.name for stage in self.stages if stage.name in fed and not stage.inputs}
        return replace(
            self,
            stages=tuple(stage for stage in self.stages if stage.name not in gone),
            edges=tuple(edge for edge in self.edges if not gone & {edge.source, edge.destination}),
        )

    def made_of(self, name: str, *, prompt: bool = False) -> frozenset[str]:
        """The modalities that other stages make of what the stage `name` emits; of its rows of the `prompt`, too."""
        made: set[str] = set()
        seen, frontier = {name}, [name]
        while frontier:
            source = frontier.pop()
            for edge in self.edges:
                if prompt and source == name and not edge.prompt:
                    continue
                if edge.source == source and edge.destination not in seen:
                    seen.add(edge.destination)
                    frontier.append(edge.destination)
                    output = self.stage(edge.destination).output
                    made |= {output} if output else set()
        return frozenset(made)

    @property
    def inputs(self) -> frozenset[str]:
        """The modalities a request may bring."""
        return frozenset(modality for stage in self.stages for modality in stage.inputs)

    @property
    def outputs(self) -> frozenset[str]:
        """The modalities that leave the graph."""
        return frozenset(stage.output for stage in self.stages if stage.output is not None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of what a stage emitted for one request. `final` marks the last; a whole payload is one final chunk.

    `part` is the number of the request's part that it was made of, if it was made of one.
    """

    request: str
    stage: str
    payload: Any
    final: bool = False
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """The payload of a bridge's final chunk where nothing comes: see `Edge`."""


@dataclass(frozen=True, slots=True)
class KVGroup:
    """Layers whose KV cache pages alike.

    `kind`: "full" keeps every token; "window" keeps the last `window` tokens; "state" keeps one fixed-size state per
    request. Per layer and block the cache holds keys `[kv_heads, block_size, key_dim]` and values
    `[kv_heads, block_size, value_dim]`; `shared_value` says that values are the first `value_dim` columns of the keys
    (latent attention), so only keys are stored.
    """

    kind: str
    layers: tuple[int, ...]
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    shared_value: bool = False

    def bytes_per_token(self, itemsize: int) -> int:
        """Bytes one token takes in all layers of the group, for elements of `itemsize` bytes."""
        width = self.key_dim + (0 if self.shared_value else self.value_dim)
        return len(self.layers) * self.kv_heads * width * itemsize


@dataclass(frozen=True, slots=True)
class StageShape:
    """What the memory plan must know of a stage before any weight is read, all of it from config.json.

    `context` is the longest sequence in tokens; `hidden`, `intermediate` (of the widest layer, per token) and `vocab`
    size the activations. `memory` are the numbers that a running request keeps besides its tokens' keys and values. A
    stage of one pass has no groups, no context and no vocabulary; `rows` are then the most rows (frames, patches) that
    it computes in one step. Nor has a stage of denoising, whose `rows` are the most tokens that one picture has in a
    step, where there is a largest picture (`engine.drawing_room`); `usual` are those of one of the usual size, where
    that is not a picture of 1024 x 1024 pixels.
    """

    groups: tuple[KVGroup, ...]
    context: int
    hidden: int
    intermediate: int
    vocab: int
    rows: int = 0
    memory: int = 0
    usual: int = 0


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a stage is built. `dtype` is a torch dtype's name ("float32", "bfloat16", "float16").

    `share`, given the name of a component and its module in main memory, leaves it what this process is to have of it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    quantization: str | None = None  # None keeps the checkpoint's form; "int8" quantizes while loading
    context: int | None = None  # the longest sequence that will be served; None: the configuration's own
    share: Callable[[str, Any], None] | None = None


def resolve(target: str) -> Callable[..., Any]:
    """The function that `"module:function"` names, imported now."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
