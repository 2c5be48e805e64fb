"""The program itself: help, version, and how errors reach a person."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import tutti as package
from tests.cli.terminal import TUTTI, tutti


def test_version_is_one_line() -> None:
    assert tutti("--version").stdout == f"tutti version {package.__version__}\n"


@pytest.mark.parametrize(
    "command", [["run"], ["serve"], ["fit"], ["doctor"], ["bench", "latency"], ["bench", "serve"]]
)
def test_every_command_has_help(command: list[str]) -> None:
    result = tutti(*command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: tutti " + " ".join(command))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nosuch", "hi"], "model 'nosuch' not found"),
        (["run", "/nosuch/place", "hi"], "there is no directory"),
        (["serve", "--chat-template", "x"], "is for one model"),
        (["serve", "pico", "--no-such-flag"], "No such option: --no-such-flag"),
        (["serve", "pico", "-tp", "2"], "do nothing but draw"),
        (["serve", "pico", "--memory", "lots"], "is not a size"),
        (["run", "pico", "hi", "--think=often"], "think takes"),
        (["run", "pico", "hi", "--temperature", "-1"], "temperature must be"),
        (["nosuchcommand"], "No such command 'nosuchcommand'"),
        (["run", "pico"], "there is no prompt"),
        (["bench", "serve", "--port", "9", "--num-prompts", "1"], "no server answers"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(arguments: list[str], said: str) -> None:
    result = tutti(*arguments)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_where_an_error_came_from() -> None:
    result = tutti("run", "nosuch", "hi", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_a_wrong_setting_names_the_variable() -> None:
    result = tutti("run", "pico", "hi", environment={"TUTTI_PORT": "eighty"})
    assert result.returncode == 1
    assert "TUTTI_" in result.stderr


def test_a_reader_that_leaves_is_no_crash() -> None:
    program = subprocess.Popen([*TUTTI, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout is not None
    program.stdout.close()
    _, errors = program.communicate(timeout=60)
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_directory_that_is_no_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    result = tutti("run", str(tmp_path), "hi")
    assert (result.returncode, result.stdout) == (1, "")
    assert "has no *.safetensors" in result.stderr
