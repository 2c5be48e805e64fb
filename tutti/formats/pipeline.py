"""A folder in diffusers' format as one checkpoint: `model_index.json` names components, each in a folder of its own.

The checkpoint's `config` has the pipeline's class as its architecture, and under "components" each component's
library, class and configuration; the names of its tensors begin with the component's. No torch, no diffusers.

The weights of a component may be in a file of another form (`formats.components`), in its folder or elsewhere.

A model that writes and draws has a config.json and safetensors of its own, and diffusers' components in folders beside
these, whose own configurations name their classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError, ConfigError
from tutti.formats.checkpoint import CONFIG, INDEX, PIPELINE, SINGLE, Checkpoint, indexed, read_json
from tutti.formats.components import open_component
from tutti.formats.float8 import FLOAT8, open_safetensors
from tutti.formats.safetensors import TensorInfo, read_header

if TYPE_CHECKING:
    from torch import Tensor

    from tutti.kernels.weights import Weight

# Where a component's configuration and weights are, by the library's habit.
_CONFIGS = (CONFIG, "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json")
_STEMS = ("diffusion_pytorch_model.safetensors", SINGLE)
_INDICES = ("diffusion_pytorch_model.safetensors.index.json", INDEX)


class PipelineCheckpoint(Checkpoint):
    """A pipeline. `parts` are the components that are not in diffusers' plain form, each with names of its own."""

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        tensors: dict[str, TensorInfo],
        parts: Mapping[str, Checkpoint],
    ) -> None:
        brought = {
            f"{one}.{name}": info for one, part in parts.items() for name, info in part.tensors.items()
        }
        super().__init__(path, config, tensors | brought)
        self.parts = parts

    def tensor(self, name: str) -> Tensor:
        """See `Checkpoint.tensor`."""
        part, own = self._part(name)
        return super().tensor(name) if part is None else part.tensor(own)

    def weight(self, name: str) -> Weight:
        """See `Checkpoint.weight`."""
        part, own = self._part(name)
        return super().weight(name) if part is None else part.weight(own)

    def kept_bytes(self, name: str) -> int | None:
        """See `Checkpoint.kept_bytes`."""
        part, own = self._part(name)
        return super().kept_bytes(name) if part is None else part.kept_bytes(own)

    def release(self, name: str) -> None:
        """See `Checkpoint.release`."""
        part, own = self._part(name)
        if part is None:
            super().release(name)
        else:
            part.release(own)

    @property
    def nbytes(self) -> int:
        """See `Checkpoint.nbytes`."""
        plain = (info.nbytes for name, info in self.tensors.items() if self._part(name)[0] is None)
        return sum(plain) + sum(part.nbytes for part in self.parts.values())

    @property
    def quantization(self) -> str | None:
        """See `Checkpoint.quantization`."""
        found = dict.fromkeys(part.quantization for part in self.parts.values() if part.quantization)
        return ", ".join(found) or None

    def _part(self, name: str) -> tuple[Checkpoint | None, str]:
        """The part that has the tensor `name`, and how it calls it."""
        component, _, own = name.partition(".")
        return self.parts.get(component), own


def open_pipeline(path: Path, files: Mapping[str, str] | None = None) -> PipelineCheckpoint:
    """The checkpoint of the folder `path`. `files` have the weights of some components, by the components' names.

    Raises CheckpointError when a component or a shard is missing or cut, ConfigError on a file for another component.
    """
    files = files or {}
    config = read_pipeline(path)
    components = config["components"]
    strange = files.keys() - components.keys()
    if strange:
        raise ConfigError(
            f"--component {min(strange)}: {path} has no such component; there are {', '.join(components)}",
            param="components",
        )
    tensors: dict[str, TensorInfo] = {}
    parts: dict[str, Checkpoint] = {}
    for component, about in components.items():
        folder = path / component
        file = files.get(component) or _foreign(folder)
        own = {} if file else _weights(folder)
        if file:
            parts[component] = open_component(Path(file), component, about["class"])
        elif any(info.dtype in FLOAT8 for info in own.values()):
            parts[component] = open_safetensors(folder, own)
        else:
            tensors |= {f"{component}.{tensor}": info for tensor, info in own.items()}
    if not tensors and not parts:
        raise CheckpointError(f"{path} has no *.safetensors in the folders of its components")
    return PipelineCheckpoint(path, config | {"dtype": _dtype(tensors, parts)}, tensors, parts)


def read_pipeline(path: Path) -> dict[str, Any]:
    """The configuration of the folder `path`, without a look at its weights. Raises CheckpointError."""
    index = read_json(path / PIPELINE)
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(
            f"{path / PIPELINE} has no _class_name: it cannot be told what pipeline this is"
        )
    components: dict[str, dict[str, Any]] = {}
    for component, value in index.items():
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)):
            continue  # a setting of the pipeline, or a component that it does without
        folder = path / component
        if not folder.is_dir():
            raise CheckpointError(
                f"{path}: {PIPELINE} names the component {component!r}, and there is no such folder; "
                "fetch the checkpoint again"
            )
        components[component] = {"library": value[0], "class": value[1], "config": _config(folder)}
    return {
        "architectures": [name],
        "model_type": name,
        "components": components,
        "settings": {key: value for key, value in index.items() if key not in components and key[0] != "_"},
    }


def beside(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, TensorInfo]]:
    """The components in folders of `path`, as a pipeline's checkpoint has them, and their tensors.

    Raises CheckpointError.
    """
    components: dict[str, dict[str, Any]] = {}
    tensors: dict[str, TensorInfo] = {}
    for folder in sorted(one for one in path.iterdir() if one.is_dir()):
        config = _config(folder)
        kind = config.get("_class_name")
        if isinstance(kind, str):
            components[folder.name] = {"library": "diffusers", "class": kind, "config": config}
            tensors |= {f"{folder.name}.{tensor}": info for tensor, info in _weights(folder).items()}
    return components, tensors


def _config(folder: Path) -> dict[str, Any]:
    return next((read_json(folder / name) for name in _CONFIGS if (folder / name).is_file()), {})


def _weights(folder: Path) -> dict[str, TensorInfo]:
    """The tensors of one component; none of a tokenizer or a scheduler. Raises CheckpointError."""
    for index in _INDICES:
        if (folder / index).is_file():
            return indexed(folder, index)
    for stem in _STEMS:
        if (folder / stem).is_file():
            return read_header(folder / stem)
    others = sorted(file.name for pattern in ("*.bin", "*.safetensors") for file in folder.glob(pattern))
    if others:
        raise CheckpointError(
            f"{folder} has weights in a form that is not read here ({', '.join(others[:3])}): "
            f"{' or '.join(_STEMS)} is expected, or an index of shards"
        )
    return {}


def _foreign(folder: Path) -> Path | None:
    """The one GGUF file of a component's folder, if there is one. Raises CheckpointError where there are several."""
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} has {len(found)} GGUF files: leave one, or say which with --component {folder.name}=FILE"
        )
    return found[0] if found else None


def _dtype(tensors: Mapping[str, TensorInfo], parts: Mapping[str, Checkpoint]) -> str:
    """The type of most of the bytes; what is quantized counts as bfloat16."""
    sizes: Counter[str] = Counter()
    for info in tensors.values():
        sizes[info.dtype] += info.nbytes
    for part in parts.values():
        for info in part.tensors.values():
            sizes["bfloat16" if part.quantization else info.dtype] += info.nbytes
    return sizes.most_common(1)[0][0]
