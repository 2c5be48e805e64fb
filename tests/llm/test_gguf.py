"""A GGUF file is a model at every door."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import tutti
from tests.models import gguf_files
from tutti import LLM, SamplingParams
from tutti.errors import CheckpointError
from tutti.hub import outline_model, resolve_model
from tutti.settings import parse_size

OPTIONS = {"dtype": "float32", "device": "cpu", "memory": "2GB", "threads": 1, "max_model_len": 128}
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
MESSAGES = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def answer() -> str:
    """What the original in Hugging Face's form answers."""
    (output,) = LLM(str(gguf_files.original("llama")), **OPTIONS).chat(MESSAGES, GREEDY)
    return output.outputs[0].text


def test_the_python_door_answers_as_with_the_original(answer: str) -> None:
    llm = LLM(str(gguf_files.cached("llama")), **OPTIONS)
    (output,) = llm.chat(MESSAGES, GREEDY)
    assert output.outputs[0].text == answer


def test_the_terminal_answers_as_with_the_original(answer: str, tmp_path: Path) -> None:
    file = tmp_path / "sha256-0000"  # as Ollama names it: the content says what it is
    file.write_bytes(gguf_files.cached("llama").read_bytes())
    result = tutti("run", str(file), "hello", "there", "--temperature", "0", "--max-tokens", "12")
    assert result.returncode == 0, result.stderr
    assert result.stdout == answer.lstrip("\n") + "\n"


def test_the_plan_counts_what_the_weights_take_once_loaded() -> None:
    plans = [
        tutti("fit", str(path), "--memory", "2GB", "--dtype", "float32", "--context", "128")
        for path in (gguf_files.original("mistral"), gguf_files.cached("mistral", gguf_files.Q8_0))
    ]
    for plan in plans:
        assert plan.returncode == 0, plan.stderr
        assert "It fits" in plan.stdout
    (original,), (quantized,) = (
        [line for line in plan.stdout.splitlines() if line.lstrip().startswith("weights")] for plan in plans
    )
    assert "Q8_0 matrices" in quantized
    sizes = [parse_size("".join(line.split()[1:3])) for line in (original, quantized)]
    assert 0.25 < sizes[1] / sizes[0] < 0.3  # 34 bytes for 32 numbers of 4, and norms as they are


def test_a_gguf_file_is_its_own_name_and_another_file_is_none(tmp_path: Path) -> None:
    file = gguf_files.cached("llama")
    assert resolve_model(str(file)) == file
    with outline_model(str(file)) as outline:
        assert outline == file
    (tmp_path / "x.gguf").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not GGUF"):
        resolve_model(str(tmp_path / "x.gguf"))


def test_a_cut_file_is_one_line_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf_files.cached("llama").read_bytes()[:-1000])
    result = tutti("run", str(tmp_path / "x.gguf"), "hello")
    assert result.returncode == 1
    assert "cut short" in result.stderr
    assert result.stderr.count("\n") == 1
