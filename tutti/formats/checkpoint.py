"""A checkpoint: its configuration, its tensors' places, and the tensors themselves, memory-mapped.

Opening reads config.json and the headers of the shards, nothing else, and imports no torch. Tensors are views of the
mapped files: reading one costs no memory of our own, and `release` lets its pages go when a packed copy exists.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError, ConfigError, ModelNotFound
from tutti.formats.safetensors import TensorInfo, read_header
from tutti.hub.gguf import is_gguf

if TYPE_CHECKING:
    from torch import Tensor

    from tutti.kernels.weights import Weight

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DRAWING = "drawing"  # the key of config.json where the folder has components that draw, too
PIPELINE = "model_index.json"  # of a folder in diffusers' format, whose components have folders of their own


class Checkpoint:
    """An opened checkpoint. `config` is config.json as it stands; `tensors` says where each tensor lies."""

    def __init__(self, path: Path, config: dict[str, Any], tensors: dict[str, TensorInfo]) -> None:
        self.path = path
        self.config = config
        self.tensors = tensors
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits of the files' names, sizes and times of change: reading all of them would take long."""
        digest = hashlib.sha256()
        for file in sorted({info.file for info in self.tensors.values()} | {self.path / CONFIG}):
            if file.exists():
                status = file.stat()
                digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def tensor(self, name: str) -> Tensor:
        """The tensor `name`, a view of the mapped file; what is written to it never reaches the file.

        Raises CheckpointError when there is no such tensor.
        """
        import torch

        info = self._info(name)
        dtype: torch.dtype = getattr(torch, info.dtype)
        if info.nbytes == 0:
            return torch.empty(info.shape, dtype=dtype)
        flat = torch.frombuffer(
            self._map(info.file), dtype=torch.uint8, count=info.nbytes, offset=info.offset
        )
        if info.offset % dtype.itemsize:
            flat = flat.clone()  # a header of odd length; torch needs aligned elements
        return flat.view(dtype).view(info.shape)

    def weight(self, name: str) -> Weight:
        """The weight `name` in the canonical form that the kernels take: quantized where the file has it so.

        Raises as `tensor` does.
        """
        from tutti.kernels.weights import Dense

        return Dense(self.tensor(name))

    def kept_bytes(self, name: str) -> int | None:
        """Bytes that the weight `name` takes where it stays quantized; None where it does not."""
        return None

    @property
    def quantization(self) -> str | None:
        """How the weights are quantized, in the words of their format; None where they are not."""
        quantization = self.config.get("quantization_config")
        return str(quantization.get("quant_method", "unnamed")) if quantization else None

    def release(self, name: str) -> None:
        """Let the pages of `name` leave this process's memory. Its views stay valid: they read the file again."""
        info = self._info(name)
        mapped = self._maps.get(info.file)
        if mapped is None or info.nbytes == 0:
            return
        start = info.offset - info.offset % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, start, info.offset + info.nbytes - start)

    def _info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r} among the {len(self.tensors)}")
        return info

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as stream:
                # Copy-on-write, since torch has no read-only tensors; nothing is ever written.
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[file]


def open_checkpoint(path: str | Path, components: Mapping[str, str] | None = None) -> Checkpoint:
    """Opens the checkpoint `path`: a directory with safetensors, in one file or sharded by an index, or a GGUF file.

    A directory in diffusers' format is one checkpoint, too, and components in that format may stand in folders beside
    the safetensors (`formats.pipeline`). Of the former, `components` are files with the weights of some components.

    Raises ConfigError where there are none that files could be for, ModelNotFound when there is no such directory and
    CheckpointError when something in it is missing, cut short or not what it says it is.
    """
    path = Path(path)
    if components and not (path / PIPELINE).is_file():
        raise ConfigError(
            f"--component: {path} has no {PIPELINE}, so it has no components that files could be for",
            param="components",
        )
    if is_gguf(path):
        from tutti.formats.gguf.checkpoint import open_gguf  # it makes a `Checkpoint`

        return open_gguf(path)
    if not path.is_dir():
        raise ModelNotFound(
            f"{path} is not a directory; a checkpoint is a directory with {CONFIG} and safetensors, or a GGUF file"
        )
    if (path / PIPELINE).is_file():
        from tutti.formats.pipeline import open_pipeline  # it makes a `Checkpoint` of several

        return open_pipeline(path, components)
    config = read_json(path / CONFIG)
    if DRAWING not in config:
        return Checkpoint(path, config, _tensors(path))
    from tutti.formats.pipeline import beside

    found, tensors = beside(path)
    return Checkpoint(path, {**config, "components": found}, _tensors(path) | tensors)


def open_weights(path: Path) -> Checkpoint:
    """The tensors in a directory without a configuration. Raises CheckpointError."""
    return Checkpoint(path, {}, _tensors(path))


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises CheckpointError."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{file.parent} has no {file.name}; it is not a complete checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    return value


def _tensors(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of the directory's safetensors files."""
    if (path / INDEX).exists():
        return indexed(path, INDEX)
    if (path / SINGLE).exists():
        return read_header(path / SINGLE)
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return read_header(files[0])
    if files:
        raise CheckpointError(
            f"{path} has {len(files)} safetensors files but no {INDEX} that says which tensor is in which"
        )
    others = sorted(
        file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for file in path.glob(pattern)
    )
    found = f" (it has {', '.join(others[:3])}: convert it to safetensors)" if others else ""
    raise CheckpointError(f"{path} has no weights: neither {SINGLE} nor {INDEX}{found}")


def indexed(path: Path, index: str) -> dict[str, TensorInfo]:
    """The tensors that the file `index` names, each looked up in the shard that it gives. Raises CheckpointError."""
    weight_map = read_json(path / index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{path / index} has no weight_map of tensor names to file names")
    shards = sorted(set(weight_map.values()))
    absent = [shard for shard in shards if not (path / shard).is_file()]
    if absent:
        tensors = sum(shard in absent for shard in weight_map.values())
        raise CheckpointError(
            f"{path}: {len(absent)} of {len(shards)} shards are missing ({listing(absent)}), and with them {tensors} "
            "tensors; fetch the checkpoint again"
        )
    headers = {shard: read_header(path / shard) for shard in shards}
    lost = [name for name, shard in weight_map.items() if name not in headers[shard]]
    if lost:
        raise CheckpointError(
            f"{path}: {len(lost)} tensors are not in the shard the index names: {listing(lost)}"
        )
    return {name: headers[shard][name] for name, shard in weight_map.items()}


def listing(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
