"""What is quantized in a GGUF file stays so in memory, and gives what its values would give as floats."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.gguf.models import write_model
from tests.formats.gguf_files import written
from tests.models import driver, gguf_files
from tutti.engine.plan import weight_bytes
from tutti.errors import CheckpointError
from tutti.formats.checkpoint import open_checkpoint
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.convert import convert
from tutti.formats.gguf.header import describe, read_header
from tutti.formats.gguf.mixes import find_mix
from tutti.formats.gguf.quantizing import quantizer
from tutti.hub.create import Quantizer, create
from tutti.hub.modelfile import read_modelfile
from tutti.hub.store import Store
from tutti.hub.views import checkpoint_of
from tutti.kernels.weights import Quantized

PROMPT = [7, 200, 31, 4, 90, 90, 12, 255, 0]
M = {"attn_v": "Q6_K", "ffn_down": "Q6_K", "output": "Q6_K"}  # as Q4_K_M has it


def logits(file: Path, dtype: torch.dtype = torch.float32, **options: object) -> Tensor:
    model = driver.load_model(file, dtype=str(dtype).removeprefix("torch."), **options)
    with torch.inference_mode():
        (found,) = driver.Driver(model, [PROMPT], dtype=dtype).step(len(PROMPT))
    assert found is not None
    return found


def same(one: Tensor, other: Tensor, most: float = 1e-5) -> bool:
    return float((one - other).norm() / other.norm()) <= most


@pytest.mark.parametrize("kind", kinds.KEPT, ids=lambda kind: kind.name)
def test_logits_equal_those_of_the_dequantized_model(tmp_path: Path, kind: kinds.BlockType) -> None:
    tied = kind in (kinds.Q6_K, kinds.Q4_0)
    file = write_model(tmp_path / "kept.gguf", kind.name, tied=tied)
    floats = write_model(tmp_path / "floats.gguf", kind.name, tied=tied, floats=True)
    assert same(logits(file), logits(floats))
    assert same(logits(file, torch.bfloat16), logits(floats, torch.bfloat16), 0.03)
    checkpoint = open_checkpoint(file)
    for name in ("model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"):
        assert isinstance(checkpoint.weight(name), Quantized)


@pytest.mark.parametrize("name", gguf_files.MODELS)
def test_permuted_fused_tied_and_stacked_matrices_are_right(tmp_path: Path, name: str) -> None:
    file, floats = gguf_files.cached(name, gguf_files.Q8_0), tmp_path / "floats.gguf"
    convert(file, floats, find_mix("f32"))
    options = {"context": 64} if name == "phi3" else {}
    assert same(logits(file, **options), logits(floats, **options))


def test_projections_of_one_input_may_have_different_types(tmp_path: Path) -> None:
    file = write_model(tmp_path / "kept.gguf", "Q4_K", M)
    assert same(logits(file), logits(write_model(tmp_path / "floats.gguf", "Q4_K", M, floats=True)))


def test_weights_take_about_the_files_size_and_what_the_plan_counts(tmp_path: Path) -> None:
    for tied in (False, True):
        file = write_model(tmp_path / "kept.gguf", "Q4_K", M, tied=tied)
        checkpoint = open_checkpoint(file)
        model = driver.load_model(file, dtype="bfloat16")
        assert checkpoint.nbytes <= model.weight_bytes() <= 1.08 * checkpoint.nbytes
        planned = weight_bytes(checkpoint, None, 2, "cpu")
        assert planned == pytest.approx(model.weight_bytes(), rel=0.02)
        floats = sum(info.nbytes for info in checkpoint.tensors.values()) // 2  # in bfloat16
        assert planned < 0.35 * floats


def test_the_form_of_a_file_has_its_name(tmp_path: Path) -> None:
    assert open_checkpoint(written("qwen3", "q4_K_M")).quantization == "Q4_K_M"
    assert open_checkpoint(write_model(tmp_path / "kept.gguf", "Q4_K", M)).quantization == "Q4_K"
    assert open_checkpoint(gguf_files.cached("qwen3", gguf_files.F16)).quantization is None


def test_quantizing_while_loading_still_works(tmp_path: Path) -> None:
    file = write_model(tmp_path / "kept.gguf", "Q4_K", M)
    assert same(logits(file, quantization="int8"), logits(file), 0.1)


def test_types_with_tables_of_points_become_floats_and_this_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_model(tmp_path / "small.gguf", "Q4_K", {"ffn_up": "IQ2_XS", "ffn_gate": "IQ2_XS"})
    floats = write_model(
        tmp_path / "floats.gguf", "Q4_K", {"ffn_up": "IQ2_XS", "ffn_gate": "IQ2_XS"}, floats=True
    )
    with caplog.at_level(logging.WARNING, "tutti"):
        assert same(logits(file), logits(floats))
    assert [one.message for one in caplog.records if "IQ2_XS" in one.message] == [
        "small.gguf: tensors of type IQ2_XS become floats while they are loaded and take the memory of floats"
    ]
    assert read_header(file).dequantized == ["IQ2_XS"]
    assert read_header(write_model(file, "Q4_K", M)).dequantized == []


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    write_model(tmp_path / "model.gguf", "Q8_0", per_file=9)
    return sorted(tmp_path.glob("model-*.gguf"))


def test_a_model_in_several_files_is_the_model_in_one(parts: list[Path]) -> None:
    assert [part.name for part in parts] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert torch.equal(logits(parts[0]), logits(write_model(parts[0].with_name("whole.gguf"), "Q8_0")))
    joined = parts[0].with_name("joined.gguf")
    convert(parts[0], joined, find_mix("q8_0"))
    assert torch.equal(logits(joined), logits(parts[0]))
    assert {info.file for info in open_checkpoint(parts[0]).tensors.values()} == set(parts)


def test_a_store_keeps_the_files_and_quantizes_them_to_one(parts: list[Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "models")

    async def make(name: str, source: Path, fewer: Quantizer | None = None) -> Path:
        text = read_modelfile(f"FROM {source}")
        async for _ in create(store, name, text, describe, folder=Path(), quantizer=fewer):
            pass
        return checkpoint_of(store, store.get(name))

    kept = asyncio.run(make("kept", parts[0]))
    assert torch.equal(logits(kept), logits(parts[0]))
    assert {info.file.resolve().parent for info in open_checkpoint(kept).tensors.values()} == {
        store.root / "blobs"
    }
    one = asyncio.run(make("one", parts[0], quantizer("q4_0")))
    assert one.parent == store.root / "blobs"
    joined = tmp_path / "joined.gguf"
    convert(parts[0], joined, find_mix("q4_0"))
    assert torch.equal(logits(one), logits(joined))


def test_parts_that_are_missing_or_not_of_one_model_are_refused(parts: list[Path]) -> None:
    with pytest.raises(
        CheckpointError, match=r"is part 2 of 3; give the first one, model-00001-of-00003\.gguf"
    ):
        open_checkpoint(parts[1])
    other = parts[0].rename(parts[0].with_name("other.gguf"))
    with pytest.raises(CheckpointError, match=r"must be called NAME-00001-of-00003\.gguf"):
        open_checkpoint(other)
    other.rename(parts[0])
    third = parts[2].read_bytes()
    parts[2].unlink()
    with pytest.raises(CheckpointError, match=r"1 of 3 parts are missing \(model-00003-of-00003\.gguf\)"):
        open_checkpoint(parts[0])
    shutil.copy(parts[1], parts[2])
    with pytest.raises(CheckpointError, match="does not say that it is part 3 of 3"):
        open_checkpoint(parts[0])
    parts[2].write_bytes(third[: len(third) // 2])
    with pytest.raises(CheckpointError, match="cut short"):
        open_checkpoint(parts[0])
