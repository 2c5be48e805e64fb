"""Checkpoints on disk: what opens, what is refused, and that the refusal names the cause."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tutti.errors import CheckpointError, ModelNotFound
from tutti.formats.checkpoint import INDEX, SINGLE, Checkpoint, open_checkpoint
from tutti.formats.safetensors import read_header

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int8,
    torch.uint8,
    torch.int64,
    torch.float8_e4m3fn,
]


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        f"t.{i}": (torch.randn(3, 5 + i, generator=generator) * 9).to(dtype) for i, dtype in enumerate(DTYPES)
    }
    return made | {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "bool": torch.tensor([True, False]),
    }


def write(folder: Path, config: object = ()) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {"architectures": ["X"]}))
    save_file(tensors(), folder / SINGLE, metadata={"format": "pt"})
    return folder


def write_sharded(folder: Path) -> Path:
    write(folder)
    made = tensors()
    (folder / SINGLE).unlink()
    names = sorted(made)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, inside in shards.items():
        save_file({name: made[name] for name in inside}, folder / shard)
    index = {
        "metadata": {},
        "weight_map": {name: shard for shard, inside in shards.items() for name in inside},
    }
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def assert_holds(checkpoint: Checkpoint) -> None:
    made = tensors()
    assert checkpoint.tensors.keys() == made.keys()
    for name, tensor in made.items():
        info = checkpoint.tensors[name]
        assert (info.shape, info.nbytes, f"torch.{info.dtype}") == (
            tuple(tensor.shape),
            tensor.nbytes,
            str(tensor.dtype),
        )
        read = checkpoint.tensor(name)
        assert read.dtype == tensor.dtype and read.shape == tensor.shape
        assert torch.equal(read.contiguous().view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8))


@pytest.mark.parametrize("writer", [write, write_sharded])
def test_every_tensor_reads_back_as_it_was_written(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    checkpoint = open_checkpoint(writer(tmp_path))
    assert checkpoint.config == {"architectures": ["X"]}
    assert checkpoint.nbytes == sum(tensor.nbytes for tensor in tensors().values())
    assert_holds(checkpoint)


def test_a_released_tensor_can_still_be_read(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path))
    before = {name: checkpoint.tensor(name) for name in checkpoint.tensors}
    for name in checkpoint.tensors:
        checkpoint.release(name)
    assert_holds(checkpoint)
    assert torch.equal(before["t.0"], tensors()["t.0"])


def test_writing_to_a_tensor_never_reaches_the_file(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path))
    checkpoint.tensor("t.0").zero_()
    assert_holds(open_checkpoint(tmp_path))


def test_opening_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from tutti.formats.checkpoint import open_checkpoint; "
        f"assert len(open_checkpoint({str(write(tmp_path))!r}).tensors) == {len(tensors())}; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def refuse(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    for word in words:
        assert word in error.value.message


def test_a_directory_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="absent"):
        open_checkpoint(tmp_path / "absent")


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").unlink()
    refuse(tmp_path, "config.json")


@pytest.mark.parametrize("text", ["{", "[1]", "\0"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / "config.json").write_text(text)
    refuse(tmp_path, "config.json", "JSON")


def test_missing_weights_are_named_and_pickles_pointed_at(tmp_path: Path) -> None:
    (write(tmp_path) / SINGLE).unlink()
    refuse(tmp_path, SINGLE, INDEX)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    refuse(tmp_path, "pytorch_model.bin", "convert")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (write_sharded(tmp_path) / "b.safetensors").unlink()
    refuse(tmp_path, "1 of 2 shards", "b.safetensors", "5 tensors")


def test_a_tensor_that_is_not_in_its_shard_is_named(tmp_path: Path) -> None:
    index = json.loads((write_sharded(tmp_path) / INDEX).read_text())
    index["weight_map"]["lost.weight"] = "a.safetensors"
    (tmp_path / INDEX).write_text(json.dumps(index))
    refuse(tmp_path, "lost.weight")


def test_shards_without_an_index_are_refused(tmp_path: Path) -> None:
    (write_sharded(tmp_path) / INDEX).unlink()
    refuse(tmp_path, INDEX)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0]},
        [],
    ],
)
def test_an_impossible_header_entry_is_named(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"odd.weight": entry}).encode()
    (write(tmp_path) / SINGLE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    refuse(tmp_path, "odd.weight")


@given(st.data())
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = (write(folder) / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refuse(folder, SINGLE)


@given(st.binary(max_size=200))
def test_a_file_of_anything_is_refused_or_read_never_crashed_on(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / SINGLE
    file.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_header(file)
