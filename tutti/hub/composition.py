"""Graphs by file: a YAML file that composes models into one, as values that know the lines they stand on.

    name: assistant
    models:
      ears:  {model: ./whisper-small}
      brain: {model: ./qwen3-0.6b, quantization: int8}
      voice: {model: ./qwen2.5-omni-3b, voice: Chelsie}
    edges:
      - request.audio -> ears
      - request.text -> brain
      - ears.text -> brain
      - brain.text -> answer
      - brain.text -> voice
      - voice.audio -> answer

Owns the file's form. What its models can do, and so which edges make sense, is `gateway.composed.wiring`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from tutti.errors import ConfigError, TuttiError
from tutti.request import SamplingParams
from tutti.settings import EngineOptions, parse_size, parse_tokens

REQUEST, ANSWER = "request", "answer"  # the ends of the whole
MODALITIES = ("text", "image", "audio", "video")
SUFFIXES = (".yaml", ".yml")

_NAME = re.compile(r"[A-Za-z][\w-]*")
_END = re.compile(rf"(?P<part>{_NAME.pattern})(\.(?P<modality>\w+))?")
_SIZES = ("memory", "kv_cache_memory_bytes", "encoder_cache_memory_bytes")
_TOKENS = ("max_model_len", "max_num_batched_tokens")
_NOT_OF_A_PART = ("model", "served_model_name", "max_queue")


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is used in its place.

    `system` opens conversations that have no system message; `prompt` says what to do with what comes from another part
    or is read for one; `sampling` are `SamplingParams` that count unless the request has its own; `voice`, `language`
    and `instructions` are of one who speaks, `language` and `task` of one who writes down what is said.
    """

    system: str = ""
    prompt: str = ""
    sampling: dict[str, Any] = msgspec.field(default_factory=dict)
    voice: str | None = None
    language: str | None = None
    instructions: str = ""
    task: Literal["transcribe", "translate"] = "transcribe"


@dataclass(frozen=True, slots=True)
class PartSpec:
    """One of the models: `model` as `resolve_model` takes it, `options` are fields of `EngineOptions`."""

    name: str
    line: int
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    manner: Manner = field(default_factory=Manner)


@dataclass(frozen=True, slots=True)
class End:
    """One end of an edge: a part (or the request, or the answer) and a modality."""

    part: str
    modality: str

    def __str__(self) -> str:
        return f"{self.part}.{self.modality}"


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """What comes out at `source` goes in at `destination`."""

    source: End
    destination: End
    line: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}"


@dataclass(frozen=True, slots=True)
class Composition:
    """The whole file. `memory` is for all parts together, in bytes; None: decided by the plan."""

    path: Path
    name: str
    parts: tuple[PartSpec, ...]
    edges: tuple[EdgeSpec, ...]
    memory: int | None = None

    def part(self, name: str) -> PartSpec:
        """The part called `name`, which is there."""
        return next(part for part in self.parts if part.name == name)

    def wrong(self, line: int, message: str) -> ConfigError:
        """An error on `line` of the file."""
        return _wrong(self.path, line, message)

    def wrong_edge(self, edge: EdgeSpec, message: str) -> ConfigError:
        """An error of an edge."""
        return self.wrong(edge.line, f"edge {edge}: {message}")


def is_composition(model: str) -> bool:
    """Whether a model's name is that of a file of this kind."""
    return model.lower().endswith(SUFFIXES) and not Path(model).expanduser().is_dir()


def read_composition(file: str | Path) -> Composition:
    """The composition in `file`. Raises ConfigError, which names the file and the line."""
    path = Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", param="model") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", param="model") from error
    return _Reader(path).read(text)


def _check_sampling(given: dict[str, Any]) -> None:
    """Raises ConfigError, ValidationError or InvalidRequest unless these are sampling parameters."""
    unknown = [name for name in given if name not in SamplingParams.__struct_fields__ or name == "n"]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no parameter of sampling that can be set here")
    msgspec.convert(given, SamplingParams)


def _wrong(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: {message}", param="model")


class _Reader:
    """Reads one file. Nodes are PyYAML's: values that know where they stand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, text: str) -> Composition:
        """The composition that `text` is."""
        import yaml

        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = 1 if mark is None else mark.line + 1
            raise _wrong(self.path, line, f"this is not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise _wrong(self.path, 1, f"this is not YAML: {error}") from error
        if root is None:
            raise _wrong(self.path, 1, "the file is empty; it must have name, models and edges")
        found = dict(self._items(root, "the file", ("name", "models", "edges", "memory")))
        for key in ("name", "models", "edges"):
            if key not in found:
                raise _wrong(self.path, 1, f"{key} is missing; the file must have name, models and edges")
        parts = tuple(
            self._part(name, node) for name, node in self._items(found["models"], "models", sort="part")
        )
        memory = found.get("memory")
        return Composition(
            self.path,
            self._name(found["name"]),
            parts,
            tuple(self._edges(found["edges"], [part.name for part in parts])),
            None if memory is None else self._converted("memory", self._value(memory), memory, "memory"),
        )

    def _name(self, node: Any) -> str:
        name = self._value(node)
        if not isinstance(name, str) or not name.strip():
            raise self._error(node, "name must be a text: what clients call the model")
        return name

    def _part(self, name: str, node: Any) -> PartSpec:
        place = f"models.{name}"
        if _NAME.fullmatch(name) is None:
            raise self._error(node, f"{place}: a part's name is letters, digits, - and _, a letter first")
        if name in (REQUEST, ANSWER):
            raise self._error(node, f"{place}: {name} is the name of an end of the whole; take another")
        engine = [option for option in EngineOptions.__struct_fields__ if option not in _NOT_OF_A_PART]
        known = ("model", *Manner.__struct_fields__, *engine)
        nodes = dict(self._items(node, place, known))
        if "model" not in nodes:
            raise self._error(node, f"{place}: model is missing: a directory, or a Hugging Face id")
        given = {
            key: self._converted(key, self._value(value), value, f"{place}.{key}")
            for key, value in nodes.items()
        }
        model = self._local(given.pop("model"))
        manner = {key: given.pop(key) for key in Manner.__struct_fields__ if key in given}
        if given.get("chat_template"):
            given["chat_template"] = self._local(given["chat_template"])
        return PartSpec(name, nodes["model"].start_mark.line + 1, model, given, Manner(**manner))

    def _edges(self, node: Any, names: list[str]) -> Iterator[EdgeSpec]:
        import yaml

        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self._error(node, "edges must be a list, for instance: - request.text -> brain")
        for one in node.value:
            text = self._value(one)
            halves = text.split("->") if isinstance(text, str) else []
            ends = [_END.fullmatch(half.strip()) for half in halves]
            if len(ends) != 2 or ends[0] is None or ends[1] is None:
                raise self._error(one, f"edge {text}: write it as source -> destination: brain.text -> voice")
            modality = ends[0]["modality"] or ends[1]["modality"]
            if modality is None:
                raise self._error(
                    one, f"edge {text}: of which modality? write for instance {ends[0][0]}.text"
                )
            for end, others in ((ends[0], (REQUEST, *names)), (ends[1], (*names, ANSWER))):
                if end["part"] not in others:
                    raise self._error(
                        one, f"edge {text}: there is no {end['part']!r} here; there are {', '.join(others)}"
                    )
            for name in (ends[0]["modality"], ends[1]["modality"]):
                if name is not None and name not in MODALITIES:
                    raise self._error(one, f"edge {text}: {name!r} is none of {', '.join(MODALITIES)}")
            source, destination = (End(end["part"], end["modality"] or modality) for end in ends if end)
            yield EdgeSpec(source, destination, one.start_mark.line + 1)

    def _items(
        self, node: Any, place: str, known: tuple[str, ...] | None = None, sort: str = "key"
    ) -> Iterator[tuple[str, Any]]:
        """(key, node) of a mapping, every key once and `known`."""
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{place} must be a mapping: name, colon, value")
        lines: dict[str, int] = {}
        for key_node, value in node.value:
            key = str(self._value(key_node))
            if key in lines:
                raise self._error(
                    key_node, f"{place}: there are two {sort}s {key!r}, the first on line {lines[key]}"
                )
            if known is not None and key not in known:
                raise self._error(key_node, f"{place}: {key!r} is not known; there are {', '.join(known)}")
            lines[key] = key_node.start_mark.line + 1
            yield key, value

    def _value(self, node: Any) -> Any:
        import yaml

        try:
            return self._loader.construct_object(node, deep=True)
        except yaml.constructor.ConstructorError as error:
            raise self._error(node, f"this is not a plain value: {error.problem}") from error

    def _converted(self, key: str, value: Any, node: Any, place: str) -> Any:
        """`value` as the option `key` takes it."""
        try:
            if key in _SIZES and value is not None:
                return parse_size(value, key)
            if key in _TOKENS and value is not None:
                return parse_tokens(value)
            hints = get_type_hints(EngineOptions) | get_type_hints(Manner)
            converted = msgspec.convert(value, hints[key])
            if key == "sampling":
                _check_sampling(converted)
            return converted
        except msgspec.ValidationError as error:
            raise self._error(node, f"{place}: {error}") from error
        except TuttiError as error:
            raise self._error(node, f"{place}: {error.message}") from error

    def _local(self, name: str) -> str:
        """A file or folder beside the file, by its path; anything else as it stands."""
        path = self.path.parent / Path(name).expanduser()
        return str(path) if name.startswith((".", "/", "~")) or path.exists() else name

    def _error(self, node: Any, message: str) -> ConfigError:
        return _wrong(self.path, node.start_mark.line + 1, message)
