"""LoRA adapters: PEFT's folders and GGUF files, as pairs of matrices under the names of a model's own tensors.

What is more than low-rank additions (DoRA's magnitudes, trained biases, modules saved whole) is refused by name: half
an adapter would answer like neither model. No torch until matrices are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError, ConfigError, ModelNotFound
from tutti.formats.checkpoint import Checkpoint, listing, read_json
from tutti.formats.gguf.checkpoint import open_tensors
from tutti.formats.gguf.naming import original
from tutti.formats.safetensors import read_header
from tutti.hub.gguf import is_gguf

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PEFT = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight")
_GGUF = re.compile(r"(?P<tensor>.+)\.lora_(?P<side>[ab])")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices of a module: `a` [rank, in], `b` [out, rank] with the scale in it; `name` is the adapter's."""

    name: str
    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that is read: pairs by the name of the module that they belong to ("model.layers.0.mlp.up_proj")."""

    path: Path
    pairs: Mapping[str, Pair]


def adapter_bytes(path: Path) -> int:
    """How large the file of an adapter's matrices is. Raises ModelNotFound."""
    file = path if is_gguf(path) else path / WEIGHTS
    if not file.is_file():
        raise ModelNotFound(
            f"{path} is no LoRA adapter: neither a GGUF file nor a folder with {CONFIG} and {WEIGHTS}"
        )
    return file.stat().st_size


def open_adapter(path: Path, config: Mapping[str, Any]) -> Adapter:
    """The adapter at `path`, for a model with this config.json. Raises ModelNotFound, CheckpointError."""
    adapter_bytes(path)
    pairs = _read_gguf(path, dict(config)) if is_gguf(path) else _read_peft(path)
    for module, pair in pairs.items():
        if pair.a.dim() != 2 or pair.b.dim() != 2 or pair.a.shape[0] != pair.b.shape[1]:
            raise CheckpointError(
                f"{path}: the two matrices of {module} are {list(pair.a.shape)} and {list(pair.b.shape)}, "
                "which have no rank in common"
            )
    if not pairs:
        raise CheckpointError(f"{path}: there are no matrices of an adapter in it")
    return Adapter(path, pairs)


def _read_peft(folder: Path) -> dict[str, Pair]:
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{folder} is an adapter of type {kind}, which is not served; LORA is")
    for option in ("use_dora", "fan_in_fan_out", "lora_bias", "modules_to_save"):
        if config.get(option):
            raise CheckpointError(f"{folder}: adapters with {option} are not served")
    if config.get("bias", "none") != "none":
        raise CheckpointError(
            f"{folder}: adapters with trained biases (bias: {config['bias']}) are not served"
        )
    weights = Checkpoint(folder, config, read_header(folder / WEIGHTS))
    sides: dict[str, dict[str, str]] = {}
    for name in weights.tensors:
        match = _PEFT.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{folder}: the tensor {name!r} is no part of a LoRA adapter")
        sides.setdefault(match["module"], {})[match["side"].lower()] = name
    return {
        module: _pair(folder, weights, names, module, peft_scale(config, module))
        for module, names in sides.items()
    }


def peft_scale(config: Mapping[str, Any], module: str) -> float | None:
    """What PEFT multiplies by, times the rank or its root; None where the file does not say."""
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    rank = _by_pattern(config.get("rank_pattern"), module, config.get("r"))
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
        return None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Any, module: str, usual: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return usual


def _read_gguf(path: Path, config: dict[str, Any]) -> dict[str, Pair]:
    weights = open_tensors(path)
    metadata = weights.file.metadata
    kind = metadata.get("adapter.type")
    if metadata.get("general.type") != "adapter" or kind != "lora":
        raise CheckpointError(f"{path} is no LoRA adapter (adapter.type is {kind!r})")
    sides: dict[str, dict[str, str]] = {}
    for name in weights.tensors:
        match = _GGUF.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{path}: the tensor {name!r} is no part of a LoRA adapter")
        sides.setdefault(match["tensor"], {})[match["side"]] = name
    alpha = metadata.get("adapter.lora.alpha") or 0.0
    found: dict[str, Pair] = {}
    for tensor, names in sides.items():
        rank = weights.tensors[names["a"]].shape[0] if "a" in names else 1
        pair = _pair(path, weights, names, tensor, alpha / rank if alpha else 1.0)
        module, order = original(tensor, (pair.b.shape[0], pair.a.shape[1]), weights.file, config)
        found[module] = pair if order is None else Pair(pair.name, pair.a, pair.b[order])
    return found


def _pair(path: Path, weights: Checkpoint, names: Mapping[str, str], of: str, scale: float | None) -> Pair:
    if set(names) != {"a", "b"}:
        raise CheckpointError(f"{path}: of {of} there is {listing(sorted(names.values()))} alone")
    if scale is None:
        raise CheckpointError(f"{path}: {CONFIG} does not say r and lora_alpha of {of}")
    a, b = (weights.tensor(names[side]).float() for side in ("a", "b"))
    return Pair(names["b"], a, b * scale)


def named_adapters(given: Sequence[str]) -> dict[str, Path]:
    """The files of "name=path" by the names; a folder stands for the one file in it. Raises ConfigError."""
    found: dict[str, Path] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not (name and equals and path) or name in found:
            raise ConfigError(f"--lora-modules {one}: write NAME=PATH, each name once", param="lora_modules")
        file = Path(path).expanduser()
        if file.is_dir():
            files = sorted(file.glob("*.safetensors"))
            if len(files) != 1:
                raise ConfigError(
                    f"--lora-modules {one}: there are {len(files)} .safetensors files in that folder; name one",
                    param="lora_modules",
                )
            file = files[0]
        if not file.is_file():
            raise ConfigError(f"--lora-modules {one}: there is no such file", param="lora_modules")
        found[name] = file
    return found
