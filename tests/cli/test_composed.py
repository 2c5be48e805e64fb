"""Graphs by file in the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import soundfile

from tests.cli.terminal import tutti
from tests.models.composed import EDGES, composed
from tests.models.speech_checkpoints import roomy_omni
from tests.models.test_hearing import sound

FLAGS = ("--dtype", "float32", "--threads", "1", "--memory", "6GB")


def test_a_spoken_question_is_answered_aloud(tmp_path: Path) -> None:
    file = composed(tmp_path, voice={"model": str(roomy_omni(720))})  # so that its speech ends soon
    question, answer = tmp_path / "q.wav", tmp_path / "a.wav"
    soundfile.write(question, sound(1, 2.0), 16_000)
    form = '{"enum": ["Good day to you."]}'
    flags = (*FLAGS, "--temperature", "0", "--format", form, "--speak", str(answer), "--verbose")
    result = tutti("run", str(file), f"what is in {question}", *flags, timeout=280)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == '"Good day to you."'
    assert re.search(r"eval count: +\d+ token", result.stderr)
    assert soundfile.info(answer).frames > 0


def test_all_parts_are_counted_before_any_is_loaded(tmp_path: Path) -> None:
    result = tutti("fit", str(composed(tmp_path)), *FLAGS, timeout=200)
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"memory plan for all parts on cpu:\n +ears .*\n +brain .*\n +voice .*\n +total .*<= budget 6 GB",
        result.stdout,
    )


def test_an_edge_that_does_not_fit_is_one_line_that_names_it(tmp_path: Path) -> None:
    file = composed(tmp_path, (*EDGES[:2], "ears.text -> brain.audio", *EDGES[3:]))
    result = tutti("serve", str(file), "--port", "0")
    assert result.returncode == 1
    assert re.fullmatch(
        r"Error: .*assistant\.yaml:\d+: edge ears\.text -> brain\.audio: brain takes text\n", result.stderr
    ), result.stderr
    missing = tutti("run", str(tmp_path / "missing.yaml"), "hello")
    assert missing.returncode == 1 and "there is no file" in missing.stderr
