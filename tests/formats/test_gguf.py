"""The GGUF file format: what the `gguf` package writes is read, what is damaged is refused and nothing else happens."""

from __future__ import annotations

import contextlib
import functools
import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFEndian, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gguf_files import finish
from tests.models import gguf_files
from tutti.errors import CheckpointError, ModelNotFound
from tutti.formats.checkpoint import open_checkpoint
from tutti.formats.gguf.blocks.kinds import ALL
from tutti.formats.gguf.checkpoint import open_gguf
from tutti.formats.gguf.folder import FILES, read_inside
from tutti.formats.gguf.reader import Array, read_gguf

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
VALUES = {
    "add_uint8": 200,
    "add_int8": -100,
    "add_uint16": 60_000,
    "add_int16": -30_000,
    "add_uint32": 4_000_000_000,
    "add_int32": -2_000_000_000,
    "add_float32": 0.5,
    "add_uint64": 1 << 63,
    "add_int64": -(1 << 62),
    "add_float64": 0.1,
    "add_bool": True,
    "add_string": "größer 你好",
}


def written(path: Path) -> Path:
    """A file with a value of every type, arrays and two tensors."""
    writer = GGUFWriter(path, "llama")
    for method, value in VALUES.items():
        getattr(writer, method)(f"value.{method}", value)
    writer.add_array("list.numbers", [1, -2, 3])
    writer.add_array("list.floats", [1.5, 2.5])
    writer.add_array("list.texts", ["a", "", "bß"])
    writer.add_array("list.lists", [[1, 2], [3]])
    writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("two", np.ones((2, 64), np.uint8), raw_dtype=gguf.GGMLQuantizationType.I8)
    finish(writer)
    return path


def header(*parts: bytes, version: int = 3, tensors: int = 0, values: int = 0) -> bytes:
    return b"GGUF" + U32.pack(version) + U64.pack(tensors) + U64.pack(values) + b"".join(parts)


def text(value: str) -> bytes:
    return U64.pack(len(value.encode())) + value.encode()


def place(name: str, *extents: int, kind: int = 0, offset: int = 0) -> bytes:
    shape = b"".join(U64.pack(extent) for extent in extents)
    return text(name) + U32.pack(len(extents)) + shape + U32.pack(kind) + U64.pack(offset)


def test_what_the_reference_package_writes_is_read(tmp_path: Path) -> None:
    file = read_gguf(written(tmp_path / "x.gguf"))
    assert {key: file.metadata[f"value.{key}"] for key in VALUES} == VALUES
    lists = {key: value.read() for key, value in file.metadata.items() if isinstance(value, Array)}
    assert lists == {
        "list.numbers": [1, -2, 3],
        "list.floats": [1.5, 2.5],
        "list.texts": ["a", "", "bß"],
        "list.lists": [[1, 2], [3]],
    }
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    for name, found in file.tensors.items():
        assert found.shape == tuple(int(extent) for extent in reference[name].shape[::-1])
        assert (found.offset, found.nbytes) == (reference[name].data_offset, reference[name].n_bytes)


def test_block_sizes_are_those_of_the_reference_package() -> None:
    for kind in ALL:
        if kind.name == "Q8_1":
            continue  # of intermediate results; the package still has its size of 2023
        assert (kind.elements, kind.nbytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind.id)]


def test_a_large_vocabulary_is_stepped_over(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_array("tokens", [f"token {number}" for number in range(250_000)])
    writer.add_array("merges", [f"{number} {number}" for number in range(250_000)])
    writer.add_array("scores", [float(number) for number in range(250_000)])
    finish(writer)
    begin = time.process_time()
    file = read_gguf(tmp_path / "x.gguf")
    assert time.process_time() - begin < 0.5
    assert file.metadata["tokens"].count == 250_000
    assert file.metadata["tokens"].read()[-1] == "token 249999"


def test_a_big_endian_file_is_refused_by_name(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "x.gguf", "llama", endianess=GGUFEndian.BIG)
    finish(writer)
    with pytest.raises(CheckpointError, match="big-endian"):
        read_gguf(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF", "cut short"),
        (header(version=1), "version 1"),
        (header(version=99), "version 99"),
        (header(tensors=1 << 60), "announces"),
        (header(values=1 << 60), "announces"),
        (header(U64.pack(1 << 40), b"x" * 20, values=1), "cut short"),
        (header(text("k"), U32.pack(77), b"x" * 20, values=1), "unknown value type 77"),
        (header(text("k"), U32.pack(9), U32.pack(8), U64.pack(1 << 50), values=1), "announces"),
        (
            header(text("k"), U32.pack(9), U32.pack(8), U64.pack(1), U64.pack(1 << 50), values=1),
            "ends beyond",
        ),
        (header(text("k"), U32.pack(9), U32.pack(5), U64.pack(3), b"x" * 8, values=1), "announces"),
        (header(*(2 * [text("k") + U32.pack(7) + b"\1"]), values=2), "'k' twice"),
        (header(text("k"), U32.pack(9), 8 * (U32.pack(9) + U64.pack(1)), b"x" * 20, values=1), "deep"),
        (header(U64.pack(2), b"\xff\xfe", U32.pack(7), b"\1", values=1), "not UTF-8"),
        (header(*(2 * [place("t", 4)]), b"x" * 64, tensors=2), "'t' is there twice"),
        (header(place("a", 8), place("b", 8, offset=0), b"x" * 128, tensors=2), "overlap"),
        (header(place("a", 8, offset=1 << 40), b"x" * 64, tensors=1), "ends at byte"),
        (header(place("a", 1 << 40, 1 << 40), b"x" * 64, tensors=1), "ends at byte"),
        (header(place("a", 8, offset=3), b"x" * 128, tensors=1), "multiple of 32 bytes"),
        (header(place("a", 8, kind=5), b"x" * 64, tensors=1), "type 5"),
        (header(place("a", 33, kind=8), b"x" * 64, tensors=1), "no multiple of Q8_0"),
        (header(place("a"), b"x" * 64, tensors=1), "0 extents"),
        (header(place("a", *range(1, 9)), b"x" * 64, tensors=1), "8 extents"),
        (header(text("general.alignment"), U32.pack(4), U32.pack(24), values=1), "no power of two"),
    ],
)
def test_what_contradicts_itself_is_refused_and_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        read_gguf(file)


def test_a_file_that_is_not_there_or_not_gguf_is_told_from_one_that_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(ModelNotFound):
        open_checkpoint(tmp_path / "none.gguf")


def test_an_architecture_that_is_not_served_is_named_with_those_that_are(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "x.gguf", "mamba")
    finish(writer)
    with pytest.raises(CheckpointError, match=r"'mamba'.*not supported as GGUF; supported: .*llama"):
        open_checkpoint(tmp_path / "x.gguf")


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "x.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    end = max(place.offset + place.nbytes for place in read_gguf(tmp_path / "x.gguf").tensors.values())
    for length in range(end):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_gguf(cut)


@functools.cache
def small(name: str) -> tuple[bytes, int]:
    """A real small file, and where its data begin."""
    path = gguf_files.cached(name, gguf_files.Q8_0)
    return path.read_bytes(), min(place.offset for place in read_gguf(path).tensors.values())


@pytest.mark.parametrize(
    "name", ["llama", "gemma3", "phi3", "gpt-oss", "deepseek2-apart", "falcon", "qwen3moe"]
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_raises_nothing_but_checkpoint_errors(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    content, begin = small(name)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, begin - 1))
        damaged[at : at + 1] = data.draw(st.binary(max_size=1))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(4, len(damaged))) :]
    file = tmp_path / "x.gguf"
    file.write_bytes(damaged)
    for inside in FILES:
        with contextlib.suppress(CheckpointError):
            read_inside(file, inside)
    with contextlib.suppress(CheckpointError):
        checkpoint = open_gguf(file)
        for tensor in checkpoint.tensors:
            with contextlib.suppress(CheckpointError):
                checkpoint.tensor(tensor)


def test_a_file_is_opened_and_described_without_torch() -> None:
    path = gguf_files.cached("llama")
    code = (
        "import sys; from pathlib import Path; from tutti.formats.checkpoint import open_checkpoint\n"
        f"checkpoint = open_checkpoint({str(path)!r})\n"
        "from tutti.models.processor import load_processor\n"
        f"processor = load_processor({str(path)!r})\n"
        "assert processor.tokenizer.encode('hi') == [104, 105], processor.tokenizer.encode('hi')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
