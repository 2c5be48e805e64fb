"""`tutti run`: one answer, or a conversation on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import NOWHERE, Terminal, interrupted, tutti

GREEDY = ("--temperature", "0", "--max-tokens", "12")
ENDLESS = ("--temperature", "0", "--memory", "1GB")


@pytest.fixture(scope="module")
def greedy_answer(checkpoint: Path) -> str:
    """What the model answers to "hello there", by the Python door."""
    from tutti import LLM, SamplingParams

    llm = LLM(str(checkpoint))
    sampling = SamplingParams(temperature=0, max_tokens=12)
    (output,) = llm.chat([{"role": "user", "content": "hello there"}], sampling)
    return output.outputs[0].text


def test_a_prompt_on_the_command_line_is_answered_once(checkpoint: Path, greedy_answer: str) -> None:
    result = tutti("run", str(checkpoint), "hello", "there", *GREEDY)
    assert result.returncode == 0, result.stderr
    assert result.stdout == greedy_answer.lstrip("\n") + "\n"
    assert result.stderr == ""


def test_piped_text_comes_before_the_prompt_and_verbose_shows_the_cost(checkpoint: Path) -> None:
    piped = tutti("run", str(checkpoint), "there", *GREEDY, "--verbose", stdin="hello\n")
    whole = tutti("run", str(checkpoint), *GREEDY, stdin="hello\n\nthere")
    assert piped.stdout == whole.stdout != ""
    rows = dict(line.split(":") for line in piped.stderr.strip().splitlines())
    assert rows["eval count"].split() == ["12", "token(s)"]
    assert set(rows) == {
        *("total duration", "load duration", "prompt eval count", "prompt eval duration", "prompt eval rate"),
        *("eval count", "eval duration", "eval rate"),
    }


def test_a_model_of_vectors_prints_one(tmp_path: Path) -> None:
    from tests.models import text_encoders

    path = text_encoders.cached("bert")
    result = tutti("run", str(path), "hello", "--dimensions", "8")
    assert result.returncode == 0, result.stderr
    expected = text_encoders.hidden("bert", "hello").mean(0)[:8]
    assert json.loads(result.stdout) == pytest.approx((expected / expected.norm()).tolist(), abs=1e-5)
    result = tutti("run", str(path), "hello " * 400, "--truncate=false")
    assert result.returncode == 1
    assert "Shorten it" in result.stderr


def test_the_answer_can_be_made_to_be_json(checkpoint: Path) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]})
    result = tutti("run", str(checkpoint), "hello", "--format", schema, "--max-tokens", "100")
    assert result.returncode == 0, result.stderr
    assert isinstance(json.loads(result.stdout)["n"], bool)


def test_a_checkpoint_with_missing_tensors_names_them(checkpoint: Path, tmp_path: Path) -> None:
    import safetensors.numpy

    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = safetensors.numpy.load_file(checkpoint / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    result = tutti("run", str(tmp_path), "hello")
    assert result.returncode == 1
    assert "model.layers.1.mlp.down_proj.weight" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_prompt_beyond_the_context_states_both_numbers(checkpoint: Path) -> None:
    result = tutti("run", str(checkpoint), "x" * 1000)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert "256" in result.stderr


def test_ctrl_c_ends_a_single_answer_with_code_130(endless: Path) -> None:
    ended = interrupted("run", str(endless), "hello", *ENDLESS, environment=NOWHERE)
    assert ended == (130, b"")


def test_a_conversation_on_a_terminal(checkpoint: Path, greedy_answer: str, tmp_path: Path) -> None:
    with Terminal("run", str(checkpoint), *GREEDY, environment={"TUTTI_HOME": str(tmp_path)}) as terminal:
        terminal.expect(r">>> ")
        terminal.type("hello there\n")
        first_word = greedy_answer.lstrip("\n")[:3]
        terminal.expect(rf"{first_word}.*>>> " if first_word.isalnum() else r"\n.*>>> ")
        terminal.type("/set parameter max_tokens 3\n")
        terminal.expect("Set parameter 'max_tokens' to '3'")
        terminal.type("/set parameter nonsense 3\n")
        terminal.expect("unknown parameter 'nonsense'")
        terminal.type("/show parameters\n")
        terminal.expect(r"num_predict\s+3")
        terminal.type("/set system Be brief.\n")
        terminal.expect("Set system message")
        terminal.type("/show system\n")
        terminal.expect("Be brief")
        terminal.type("/show info\n")
        terminal.expect(r"context length\s+256")
        terminal.type("/nosuch\n")
        terminal.expect(r"Unknown command '/nosuch'. Type /\? for help")
        terminal.type("/?\n")
        terminal.expect("Available Commands:.*/clear")
        terminal.type("/set verbose\n")
        terminal.expect("Set 'verbose' mode")
        terminal.type('"""two\n')
        terminal.expect(r"\.\.\. ")
        terminal.type('lines"""\n')
        terminal.expect(r"prompt eval count:\s+\d+ token")
        terminal.type("/clear\n")
        terminal.expect("Cleared session context")
        terminal.type("/bye\n")
        assert terminal.wait() == 0
    assert "hello there" in (tmp_path / "history").read_text()


def test_ctrl_c_stops_an_answer_and_ctrl_d_leaves(endless: Path, tmp_path: Path) -> None:
    with Terminal("run", str(endless), *ENDLESS, environment={"TUTTI_HOME": str(tmp_path)}) as terminal:
        terminal.expect(r">>> ")
        terminal.type("\x03")
        terminal.expect(r"Use Ctrl \+ d or /bye to exit")
        terminal.expect(r">>> ")
        terminal.type("tell me everything\n")
        terminal.expect(r"everything\s*\n[^>]{5}")
        terminal.interrupt()
        terminal.expect(r"\n>>> ")
        terminal.type("/show parameters\n")
        terminal.expect(r"temperature\s+0.*\n>>> ")  # before the prompt is there, Ctrl+D means something else
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_a_conversation_is_saved_and_gone_on_with(checkpoint: Path, tmp_path: Path) -> None:
    place = {"HOME": str(tmp_path), "TUTTI_HOME": str(tmp_path), "TUTTI_MODELS": str(tmp_path / "models")}
    with Terminal("run", str(checkpoint), *GREEDY, environment=place) as terminal:
        terminal.expect(r">>> ")
        for typed, shown in {
            "/set parameter seed 7": "Set parameter 'seed' to '7'",
            "/set parameter num_gpu 1": "unknown parameter 'num_gpu'",
            "/set system Be brief.": "Set system message",
            "hello there": r"\n.*",
            "/save not/a/good/name": "The model name 'not/a/good/name' is invalid",
            "/save mine": "Created new model 'mine'",
            "/load nosuch": "Couldn't find model 'nosuch'",
            "/load mine": r"Loading model 'mine'.*>>> hello there",
            "/list": r"mine:latest",
            "/show system": "Be brief",
            "/show parameters": r"num_predict\s+12\s+seed\s+7",
            "/show modelfile": "SYSTEM.*Be brief.*MESSAGE user hello there",
            "go on": r"\n.*",
        }.items():
            terminal.type(f"{typed}\n")
            terminal.expect(rf"{shown}.*\n>>> ")
        terminal.type("/bye\n")
        assert terminal.wait() == 0
