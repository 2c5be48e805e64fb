"""A folder in diffusers' format as one checkpoint: `model_index.json` names components, each in a folder of its own.

The checkpoint's `config` has the pipeline's class as its architecture, and under "components" each component's
library, class and configuration; the names of its tensors begin with the component's. No torch, no diffusers.

A model that writes and draws has a config.json and safetensors of its own, and diffusers' components in folders beside
these, whose own configurations name their classes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import CONFIG, INDEX, PIPELINE, SINGLE, Checkpoint, indexed, read_json
from tutti.formats.safetensors import TensorInfo, read_header

# Where a component's configuration and weights are, by the library's habit.
_CONFIGS = (CONFIG, "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json")
_STEMS = ("diffusion_pytorch_model.safetensors", SINGLE)
_INDICES = ("diffusion_pytorch_model.safetensors.index.json", INDEX)


def open_pipeline(path: Path) -> Checkpoint:
    """The checkpoint of the folder `path`. Raises CheckpointError when a component or a shard is missing or cut."""
    index = read_json(path / PIPELINE)
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(
            f"{path / PIPELINE} has no _class_name: it cannot be told what pipeline this is"
        )
    components: dict[str, dict[str, Any]] = {}
    tensors: dict[str, TensorInfo] = {}
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
        tensors |= {f"{component}.{tensor}": info for tensor, info in _weights(folder).items()}
    if not tensors:
        raise CheckpointError(f"{path} has no *.safetensors in the folders of its components")
    config = {
        "architectures": [name],
        "model_type": name,
        "components": components,
        "settings": {key: value for key, value in index.items() if key not in components and key[0] != "_"},
        "dtype": _dtype(tensors),
    }
    return Checkpoint(path, config, tensors)


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


def _dtype(tensors: dict[str, TensorInfo]) -> str:
    """The type of most of the bytes."""
    sizes: Counter[str] = Counter()
    for info in tensors.values():
        sizes[info.dtype] += info.nbytes
    return sizes.most_common(1)[0][0]
