"""What is known of a model that can be served, whether it is in memory or not: what the doors list and show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutti.gateway.abilities import capabilities
from tutti.gateway.backend import Backend, BackendModel
from tutti.hub.create import format_count
from tutti.settings import BARE, Preset

_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_PARAMETERS = {"repetition_penalty": "repeat_penalty", "max_tokens": "num_predict"}  # by Ollama's names


@dataclass(frozen=True, slots=True)
class Card:
    """A model in short.

    `root` is the checkpoint (a path or a name) behind it; `created` is in seconds since the epoch, `context` in tokens
    (0: not known), `size` in bytes of its files. `digest` has 64 hexadecimal digits. `parameters` is their number as
    people write it. `outputs`, `voices`: see `BackendModel`; the voices of a model are known once it was loaded.
    `remark` says how it is served, where that is not by a family of its own.
    """

    name: str
    root: str
    created: float
    size: int
    digest: str
    context: int = 0
    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameters: str = ""
    quantization: str = ""
    capabilities: tuple[str, ...] = ("completion",)
    outputs: tuple[str, ...] = ("text",)
    voices: tuple[str, ...] = ()
    preset: Preset = BARE
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a checkpoint."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A model at length.

    `parameters` are (name, text); `facts` are under GGUF's keys, and so is `projector`, of the file that sees for it.
    """

    card: Card
    modelfile: str
    template: str
    parameters: Sequence[tuple[str, str]]
    facts: Mapping[str, Any]
    system: str = ""
    license: str = ""
    messages: Sequence[tuple[str, str]] = ()
    projector: Mapping[str, Any] = field(default_factory=dict)
    tensors: Sequence[Tensor] = ()


def card_of(backend: Backend, model: BackendModel) -> Card:
    """The card of a model in memory, of what its engine said when it was ready."""
    info = backend.info
    return Card(
        name=model.name,
        root=model.root,
        created=model.created,
        context=model.context,
        size=info.size,
        digest=info.fingerprint,
        format="safetensors",
        family=info.family,
        parameters=format_count(info.parameters),
        quantization=type_name(info.quantization),
        capabilities=tuple(capabilities(backend, model)),
        families=(info.family,),
        outputs=model.outputs,
        voices=model.voices,
    )


def sheet_of(backend: Backend, model: BackendModel) -> Sheet:
    """The sheet of a model in memory."""
    info, template = backend.info, backend.processor.templates.source
    recommended = backend.processor.generation_defaults
    parameters = [(_PARAMETERS.get(name, name), str(value)) for name, value in recommended.items()]
    facts = {
        "general.architecture": info.family,
        "general.basename": model.name,
        "general.parameter_count": info.parameters,
        f"{info.family}.context_length": model.context,
        f"{info.family}.vocab_size": info.vocab_size,
    }
    return Sheet(
        card_of(backend, model), modelfile(model.root, template, parameters), template, parameters, facts
    )


def type_name(kind: str) -> str:
    """BF16, F16, INT8: a data type or a way of quantizing as Ollama writes it."""
    return _TYPES.get(kind, kind.upper())


def modelfile(root: str, template: str, parameters: Sequence[tuple[str, str]]) -> str:
    """The Modelfile of a model that was made without one."""
    lines = [f"FROM {root}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in parameters]
    return "\n".join(lines) + "\n"
