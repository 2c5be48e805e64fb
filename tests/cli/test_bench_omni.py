"""`tutti bench omni`: what simulated listeners hear, from a server that runs and from one it starts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.api.serving import Serving, serving
from tests.cli.terminal import tutti
from tests.models import checkpoints
from tutti.cli.playback import Playback

CODES = {"temperature": 0.0, "max_tokens": 60, "allowed_token_ids": list(range(64))}
BODY = json.dumps(
    {"ignore_eos": True, "stage_sampling": {"talker": CODES}, "audio": {"voice": "ada", "format": "wav"}}
)


def test_a_listener_hears_a_silence_when_a_piece_comes_after_all_before_it_was_played() -> None:
    assert Playback.of([(10.0, 1.0), (10.5, 1.0), (11.9, 1.0)], 0.0) == Playback(0, 0.0)
    assert Playback.of([(10.0, 1.0), (11.5, 1.0), (12.7, 1.0)], 0.0) == Playback(2, pytest.approx(0.7))
    assert Playback.of([(10.0, 1.0), (11.05, 1.0)], 0.1) == Playback(0, 0.0)
    assert Playback.of([], 0.1) == Playback(0, 0.0)


PIECES = st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 2)), min_size=1, max_size=30)


@given(PIECES, st.floats(0, 1))
def test_playing_takes_the_sound_and_the_silences(steps: list[tuple[float, float]], wait: float) -> None:
    pieces, now = [], 0.0
    for pause, seconds in steps:
        now += pause
        pieces.append((now, seconds))
    play = Playback.of(pieces, wait)
    ends = pieces[0][0] + wait + sum(seconds for _, seconds in pieces) + play.silent
    assert ends >= pieces[-1][0]  # nothing is played before it has come
    assert play.silent <= pieces[-1][0] - pieces[0][0]
    assert (play.underruns == 0) == (play.silent == 0)
    patient = Playback.of(pieces, wait + 1)
    assert patient.silent <= play.silent and patient.underruns <= play.underruns


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(model=str(checkpoints.cached("qwen2_5_omni"))) as served:
        yield served


def test_the_curve_of_a_server_that_runs(server: Serving, tmp_path: Path) -> None:
    picture, file = tmp_path / "red.png", tmp_path / "omni.json"
    Image.new("RGB", (32, 32), "red").save(picture)
    arguments = "--streams 1,3 --rounds 1 --output-len 6 --extra-body".split()
    more = ("--image", str(picture), "--output-json", str(file))
    result = tutti("bench", "omni", "--base-url", server.url, *arguments, BODY, *more)
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"streams\s+text ms\s+sound ms\s+RTF\s+sound/s\s+underruns\s+silent s\s+had one", result.stdout
    )
    assert re.search(r"^\s*3 .* \d+%", result.stdout, re.MULTILINE)
    assert "talker" in result.stdout and "Peak memory of the engine's processes" in result.stdout
    found = json.loads(file.read_text())
    assert [level["streams"] for level in found["levels"]] == [1, 3]
    last = found["levels"][-1]
    assert (last["requests"], last["failed"]) == (3, 0)
    assert last["rate"] * last["duration"] == pytest.approx(3 * 60 / 50)
    assert 0 < last["text"]["mean"] < last["sound"]["mean"] < 1000 * last["duration"]
    assert last["rtf"] > 0 and last["memory"] > 10**8
    stages = {stage["name"]: stage for stage in last["stages"]}
    assert list(stages) == ["audio", "vision", "thinker", "talker", "token2wav"]
    assert stages["talker"]["steps"] >= 60 and stages["talker"]["batch"] > 1
    assert stages["audio"]["steps"] == 0
    assert 0 < sum(stage["busy"] for stage in stages.values()) <= 1.01


def test_a_model_is_served_while_it_is_measured_without_the_players_clocks() -> None:
    model = str(checkpoints.cached("qwen2_5_omni"))
    engine = "--no-player-clock --dtype float32 --memory 2GB --threads 1 --output-len 6 --extra-body".split()
    result = tutti(
        "bench", "omni", model, "--request-rate", "50", "--num-prompts", "3", "--json", *engine, BODY
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["player_clock"] is False and found["rate"] == 50
    (level,) = found["levels"]
    assert (level["requests"], level["failed"]) == (3, 0)


def test_what_makes_no_sense_is_told_at_once(server: Serving) -> None:
    for arguments, message in (
        ([], "which model"),
        (["--base-url", server.url, "--streams", "1,x"], "write numbers"),
        (["--base-url", server.url, "--extra-body", "{"], "not JSON"),
        (["--base-url", server.url, "--audio", "nothing.wav"], "nothing.wav"),
        (["--base-url", server.url, "--streams", "1", "--voice", "nobody"], "this model has Ada"),
    ):
        result = tutti("bench", "omni", *arguments)
        assert result.returncode == 1 and message in result.stderr, (arguments, result.stderr)
