"""`tutti quantize`: a checkpoint in, a GGUF file out, and nothing left of a failure."""

from __future__ import annotations

from pathlib import Path

import gguf

from tests.cli.terminal import Terminal, tutti
from tests.formats.gguf_files import written

PATIENCE = 240  # seconds; a machine may be busy


def test_a_checkpoint_becomes_a_file_of_the_type_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    result = tutti("quantize", str(checkpoint), str(target), "--type", "Q8_0", timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{target}: q8_0, 35 tensors, ")
    assert "bits a weight" in result.stdout
    assert result.stderr == ""  # progress is for terminals
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(target).tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0"


def test_a_gguf_file_becomes_a_smaller_one(tmp_path: Path) -> None:
    source, target = written("qwen3", "q8_0"), tmp_path / "small.gguf"
    result = tutti("quantize", str(source), str(target), "-t", "q4_0", timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert target.stat().st_size < source.stat().st_size


def test_a_terminal_shows_how_far_it_is(checkpoint: Path, tmp_path: Path) -> None:
    with Terminal("quantize", str(checkpoint), str(tmp_path / "model.gguf")) as terminal:
        terminal.expect(r"\d+/35 \S+ \w+")
        terminal.expect("q4_K_M, 35 tensors")
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]


def test_a_creation_keeps_a_model_in_fewer_bits(checkpoint: Path, tmp_path: Path) -> None:
    environment = {"TUTTI_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {checkpoint}\nSYSTEM Be brief.\n")
    made = ("create", "small", "-f", str(tmp_path / "Modelfile"), "-q", "Q8_0")
    result = tutti(*made, environment=environment, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert "quantizing float32 model to Q8_0" in result.stderr
    shown = tutti("show", "small", environment=environment).stdout
    assert "quantization        Q8_0" in shown and "Be brief." in shown
    assert not list((tmp_path / "models/.tmp").iterdir())
    result = tutti(*made[:-1], "q4_K_X", environment=environment)
    assert result.stderr.startswith("Error: there is no type 'q4_K_X'; there are f32")


def test_errors_are_one_line_and_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((str(checkpoint), "model.gguf", "--type", "q4_K_X"), "there is no type 'q4_K_X'; there are f32"),
        (("absent-model.gguf", "model.gguf"), "absent-model.gguf"),
        ((str(checkpoint), "absent/model.gguf"), "make it first"),
    ):
        source, target, *flags = arguments
        result = tutti("quantize", source, str(tmp_path / target), *flags, timeout=PATIENCE)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ") and words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
