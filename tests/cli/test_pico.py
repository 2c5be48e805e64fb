"""The model in the box, through the terminal: a newcomer's first command."""

from __future__ import annotations

import pytest

from tests.cli.terminal import tutti


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 7 plus 8?", "7 plus 8 is 15."),
        ("3加4等于几?", "3加4等于7。"),
        (
            "What is the capital of France?",
            "I do not know. I am pico, a small demonstration model of a toy world.",
        ),
    ],
)
def test_pico_answers_offline(question: str, answer: str) -> None:
    result = tutti("run", "pico", question, environment={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (result.returncode, result.stdout, result.stderr) == (0, answer + "\n", "")


def test_pico_fits_in_a_gigabyte_and_a_half() -> None:
    assert tutti("fit", "pico", "--memory", "1.5GB", "--concurrency", "8").returncode == 0
