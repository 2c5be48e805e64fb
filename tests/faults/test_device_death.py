"""The process of a stage dies by SIGKILL behind a server: who hears it gets an error that names it, others go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.serving import Serving, serving, until
from tests.models import checkpoints
from tutti.engine.process import ProcessEngine

TALKER = {"temperature": 0.0, "max_tokens": 240, "allowed_token_ids": list(range(64))}


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    placement = {"talker": "cpu:1", "token2wav": "cpu:1"}
    model = str(checkpoints.cached("qwen2_5_omni"))
    with serving(model=model, make_engine=ProcessEngine, placement=placement) as served:
        yield served


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def engine(server: Serving) -> int:
    assert isinstance(server.engine, ProcessEngine) and server.engine.pid is not None
    return server.engine.pid


def speak(**options: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": "Hello"}],
        "modalities": ["text", "audio"],
        "audio": {"voice": "ada", "format": "pcm16"},
        "stage_sampling": {"talker": TALKER | options},
        "max_tokens": 6,
        "stream": True,
    }


def spoken(server: Serving, body: dict[str, Any]) -> int:
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": False}, timeout=200)
    return response.status_code


def test_a_killed_stage_fails_who_hears_it_and_nobody_else(server: Serving) -> None:
    url = f"{server.url}/v1/chat/completions"
    (stage,) = children(engine(server))
    with httpx.stream("POST", url, json=speak(), timeout=200) as response:
        lines = response.iter_lines()
        next(line for line in lines if len(line) > 1000)  # sound
        os.kill(stage, signal.SIGKILL)
        text = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "ignore_eos": True}
        answer = httpx.post(url, json=text, timeout=200).json()
        assert answer["usage"]["completion_tokens"] == 5
        (error,) = [line for line in lines if '"error"' in line]
    assert '"stage_failed"' in error and "the process of stage talker and token2wav ended" in error

    until(lambda: spoken(server, speak(max_tokens=10)) == 200, 200)
    (again,) = children(engine(server))
    assert again != stage
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    for name in ("thinker", "talker", "token2wav"):
        steps = [line for line in lines if line.startswith("tutti_stage_steps_total") and f'"{name}"' in line]
        assert float(steps[0].split()[-1]) > 0
    server.everything_is_returned()


def test_when_the_engine_is_killed_its_devices_go_with_it(server: Serving) -> None:
    (stage,) = children(engine(server))
    os.kill(engine(server), signal.SIGKILL)
    until(lambda: gone(stage), 60)
