"""`tutti run` with a model that writes and draws: its words on the terminal, its pictures in files, and in Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tutti
from tests.api.serving import Serving, serving
from tests.cli.terminal import Terminal
from tests.cli.terminal import tutti as command
from tests.models import unified_checkpoints as unified
from tutti.errors import InvalidRequest
from tutti.media.image import read_note
from tutti.settings import terminal_pictures

ENGINE = ("--dtype", "float32", "--memory", "3GB", "--threads", "1")
ASKED = ("--temperature", "0", "--seed", "5")


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(model=str(unified.drawing())) as running:
        yield running


@pytest.fixture
def host(server: Serving) -> dict[str, str]:
    return {"OLLAMA_HOST": server.url}


def test_the_words_are_printed_and_the_picture_goes_into_a_file(tmp_path: Path) -> None:
    out, spoken = tmp_path / "dot.png", tmp_path / "dot.wav"
    asked = ("a dot", "-o", str(out), "--steps", "2", "--speak", str(spoken))
    result = command("run", str(unified.drawing()), *asked, *ASKED, *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{unified.SAYS}\n{out}\n"
    note = json.loads(read_note(out.read_bytes()))
    assert note["prompt"] == "draw a dot" and note["seed"] == 5 and note["num_inference_steps"] == 2
    assert spoken.stat().st_size > 44
    with tutti.Omni(str(unified.drawing()), dtype="float32", memory="3GB", threads=1) as omni:
        manner = {"sampling": tutti.SamplingParams(temperature=0, max_tokens=24), "seed": 5}
        answer = omni.generate(text="draw a dot", modalities=["text", "image"], steps=2, **manner)
        assert answer.text == unified.SAYS
        assert np.array_equal(np.asarray(answer.images[0]), np.asarray(Image.open(out)))
        assert not omni.generate(text="draw a dot").images
        with pytest.raises(InvalidRequest, match="ask for a picture with modalities="):
            omni.generate(text="draw a dot", steps=2)
        with pytest.raises(InvalidRequest, match="at most 24 pixels a side"):
            omni.generate(text="draw a dot", modalities=["image"], size="48x48")


def test_an_answer_without_a_picture_is_an_error_where_one_was_asked_for(tmp_path: Path) -> None:
    folder = str(unified.refusing())
    result = command("run", folder, "a dot", "-o", str(tmp_path / "a.png"), *ASKED, *ENGINE, timeout=240)
    assert result.returncode == 1 and f"it answered: '{unified.SAYS}'" in result.stderr
    result = command("run", folder, "a dot", *ASKED, *ENGINE, timeout=240)
    assert (result.returncode, result.stdout) == (0, f"{unified.SAYS}\n")


def test_a_server_draws_for_the_terminal(server: Serving, host: dict[str, str], tmp_path: Path) -> None:
    before = server.stats().requests
    out = tmp_path / "dot.webp"
    asked = ("run", "tiny", "a dot", "--temperature", "0")
    result = command(*asked, "-o", str(out), "--size", "16x16", environment=host)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{unified.SAYS}\n{out}\n" and Image.open(out).size == (16, 16)
    assert server.stats().requests == before + 1


def test_a_conversation_has_pictures(
    host: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = host | {
        "TUTTI_HOME": str(tmp_path),
        "COLORTERM": "truecolor",
        "TERM_PROGRAM": "",
        "TERM": "xterm",
    }
    with Terminal("run", "tiny", environment=environment) as terminal:
        terminal.expect(">>> ")
        terminal.type("draw a dot\n")
        terminal.expect(unified.SAYS)
        terminal.expect("▀")
        terminal.expect(r"picture-\d+\.png")
        terminal.expect(">>> ")
        terminal.type("/bye\n")
        assert terminal.wait() == 0
    (file,) = tmp_path.glob("picture-*.png")
    assert Image.open(file).size == (unified.SIZE, unified.SIZE)


def test_a_model_of_the_store_draws_what_it_writes(tmp_path: Path) -> None:
    store = {"OLLAMA_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {unified.drawing()}\n")
    made = command("create", "unified", "-f", str(tmp_path / "Modelfile"), environment=store)
    assert made.returncode == 0, made.stderr
    assert {"completion", "image", "vision"} <= set(
        command("show", "unified", environment=store).stdout.split()
    )
    out = tmp_path / "dot.png"
    result = command(
        "run", "unified", "a dot", "-o", str(out), *ASKED, *ENGINE, environment=store, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert Image.open(out).size == (unified.SIZE, unified.SIZE)


def test_fit_says_what_can_be_written_and_drawn() -> None:
    fit = command("fit", str(unified.drawing()), "--memory", "3GB", timeout=240)
    assert "KV cache" in fit.stdout and "of several pictures" in fit.stdout, fit.stderr


def test_terminals_that_show_pictures_are_known_by_their_environment() -> None:
    assert terminal_pictures({"TERM": "xterm-kitty"}) == "kitty"
    assert terminal_pictures({"TERM_PROGRAM": "iTerm.app"}) == "iterm"
    assert terminal_pictures({"TERM": "xterm-256color", "COLORTERM": "truecolor"}) == "colours"
    assert terminal_pictures({"TERM": "dumb"}) == ""
