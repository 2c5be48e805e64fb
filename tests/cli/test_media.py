"""Files in a prompt, and answers that are spoken, in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from PIL import Image

from tests.cli.terminal import tutti
from tests.media import files
from tests.models import checkpoints
from tests.models.speech_checkpoints import brief_omni3
from tutti.cli.attach import content_of, media_in
from tutti.errors import InvalidRequest

ALL = frozenset({"image", "audio", "video"})
GREEDY = ("--temperature", "0", "--max-tokens", "6", "--dtype", "float32", "--memory", "2GB")


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red square.png"
    Image.new("RGB", (32, 32), "red").save(path)
    return path


def test_a_file_that_is_named_is_shown_and_leaves_the_text(red: Path) -> None:
    escaped = str(red).replace(" ", "\\ ")
    for text in (f"what is in '{red}'?", f'what is in "{red}"?', f"what is in {escaped} ?"):
        content = content_of(text, ALL)
        assert isinstance(content, list)
        assert [part["type"] for part in content] == ["image", "text"]
        assert content[1]["text"].startswith("what is in")
        (medium,) = media_in([{"content": content}])
        assert medium.data == red.read_bytes()


@pytest.mark.parametrize(
    "text",
    ["see README.md", "a.b.c", "what is 3.14?", "open nothing.png", "plain words", "it's a.png isn't it"],
)
def test_everything_else_stays_as_it_was_typed(text: str) -> None:
    assert content_of(text, ALL) == text


def test_a_picture_for_a_model_without_eyes_is_refused(red: Path) -> None:
    with pytest.raises(InvalidRequest, match="takes text only"):
        content_of(f"'{red}'", frozenset())


def test_a_picture_is_described_in_the_terminal(red: Path) -> None:
    model = str(checkpoints.cached("qwen2_vl"))
    shown = tutti("run", model, f"'{red}' what is it", *GREEDY)
    assert shown.returncode == 0, shown.stderr
    other = red.with_name("blue.png")
    Image.new("RGB", (32, 32), "blue").save(other)
    assert shown.stdout != tutti("run", model, f"{other} what is it", *GREEDY).stdout


def test_a_picture_for_a_model_that_takes_text_alone_ends_with_a_clear_error(red: Path) -> None:
    result = tutti("run", str(checkpoints.cached("qwen3")), f"'{red}' what is it")
    assert result.returncode == 1
    assert "this model takes text only" in result.stderr and "Traceback" not in result.stderr


def test_an_answer_is_spoken_into_a_file(tmp_path: Path) -> None:
    model, out = str(checkpoints.cached("qwen2_5_omni")), tmp_path / "answer.wav"
    result = tutti("run", model, "hello", *GREEDY, "--speak", str(out), "--voice", "ada")
    assert result.returncode == 0, result.stderr
    samples, rate = soundfile.read(out)
    assert rate == 24_000 and len(samples) > 0


def test_a_recording_is_answered_aloud_by_frames_of_several_codes(tmp_path: Path) -> None:
    heard, out = tmp_path / "question.wav", tmp_path / "answer.wav"
    soundfile.write(heard, files.tone(0.7), 16_000)
    model = str(brief_omni3())
    result = tutti("run", model, f"what is said in {heard}?", *GREEDY, "--speak", str(out), "--voice", "bea")
    assert result.returncode == 0, result.stderr
    assert soundfile.info(out).samplerate == 24_000


def test_a_file_that_cannot_be_spoken_into_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = tutti("run", "pico", "hello", "--speak", str(tmp_path / "answer.txt"))
    assert result.returncode != 0
    assert "must end with .wav" in result.stderr
