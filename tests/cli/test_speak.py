"""`tutti speak`: a text read aloud into a file, or into a pipe."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import TUTTI, tutti
from tests.models import checkpoints
from tests.models.speech_checkpoints import roomy_omni
from tutti.media.audio import read_audio

ENGINE = ("--dtype", "float32", "--memory", "2GB")


def test_a_text_is_read_aloud_into_a_file_of_the_format_of_its_name(tmp_path: Path) -> None:
    out = tmp_path / "hello.mp3"
    result = tutti(
        "speak", str(roomy_omni(340)), "Hello", "there.", "-o", str(out), "--voice", "ada", *ENGINE
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert len(read_audio(out.read_bytes(), 24_000)) > 0


def test_a_piped_text_is_read_aloud_into_a_pipe() -> None:
    command = [*TUTTI, "speak", str(roomy_omni(340)), "-o", "-", "--format", "flac", "--speed", "2", *ENGINE]
    result = subprocess.run(command, input=b"Hello.\n", capture_output=True, timeout=90, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout[:4] == b"fLaC"
    assert len(read_audio(result.stdout, 24_000)) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pico", "Hello.", "-o", "a.txt"), "must end with .wav"),
        (("pico", "Hello.", "-o", "a.wav", "--speed", "9"), "speed must be between"),
        (("pico", "Hello.", "-o", "a.txt", "--format", "midi"), "'midi' is no format"),
        (("pico", "-o", "a.wav"), "there is nothing to say"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    given = [str(tmp_path / one) if one.startswith("a.") else one for one in arguments]
    result = tutti("speak", *given)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_voice_says_so(tmp_path: Path) -> None:
    result = tutti("speak", str(checkpoints.cached("qwen3")), "Hello.", "-o", str(tmp_path / "a.wav"))
    assert result.returncode == 1
    assert "does not read texts aloud" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
