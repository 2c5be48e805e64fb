"""`tutti run` behind a server of ours: the same answers as through its other doors, and nothing loaded twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.api.scripted import CALL, THOUGHT, make_scripted
from tests.api.serving import Serving, serving
from tests.cli.terminal import Terminal, interrupted, tutti
from tests.models import checkpoints

GREEDY = ("--temperature", "0", "--max-tokens", "12")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Serves `tiny`, `thinker`, `plain` (it has no template) and `eyes`."""
    plain = tmp_path_factory.mktemp("plain") / "model"
    shutil.copytree(checkpoints.cached("qwen3"), plain)
    config = json.loads((plain / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    beside = {
        "thinker": str(make_scripted(tmp_path_factory.mktemp("scripted") / "model")),
        "plain": str(plain),
        "eyes": str(checkpoints.cached("qwen2_vl")),
    }
    with serving(beside=beside) as running:
        yield running


@pytest.fixture
def host(server: Serving) -> dict[str, str]:
    """The environment of its clients."""
    return {"OLLAMA_HOST": server.url}


def asked(server: Serving, **fields: Any) -> str:
    """The same by OpenAI's client."""
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}]
    answer = server.client().chat.completions.create(
        model="tiny", messages=messages, max_tokens=12, temperature=0, **fields
    )
    return answer.choices[0].message.content or ""


def test_the_server_answers_what_it_answers_others(server: Serving, host: dict[str, str]) -> None:
    before = server.stats().requests
    result = tutti("run", "tiny", "hello", "there", "--system", "Be brief.", *GREEDY, environment=host)
    assert result.returncode == 0, result.stderr
    assert server.stats().requests == before + 1
    assert result.stdout == asked(server).lstrip("\n") + "\n"
    assert result.stderr == ""


def test_a_base_model_continues_the_text(server: Serving, host: dict[str, str]) -> None:
    result = tutti("run", "plain", "hello", *GREEDY, environment=host)
    assert result.returncode == 0, result.stderr
    same = server.client().completions.create(model="plain", prompt="hello", max_tokens=12, temperature=0)
    assert result.stdout == same.choices[0].text.lstrip("\n") + "\n"


def test_thoughts_come_apart_and_a_model_without_them_is_refused(host: dict[str, str]) -> None:
    result = tutti("run", "thinker", "where?", *GREEDY, environment=host)
    assert result.stdout.startswith(f"Thinking...\n{THOUGHT}\n...done thinking.\n\n{CALL}")
    assert tutti("run", "thinker", "where?", "--hidethinking", *GREEDY, environment=host).stdout.startswith(
        CALL
    )
    result = tutti("run", "tiny", "hello", "--think", environment=host)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == 'Error: 400 Bad Request: "tiny" does not support thinking\n'


def test_a_picture_is_shown_to_the_servers_model(host: dict[str, str], tmp_path: Path) -> None:
    answers = []
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
        picture = str(tmp_path / f"{colour}.png")
        result = tutti("run", "eyes", picture, "what is it", *GREEDY, environment=host)
        assert result.returncode == 0, result.stderr
        assert result.stderr == f"Added image '{picture}'\n"
        answers.append(result.stdout)
    assert answers[0] != answers[1]


def test_ctrl_c_has_the_server_stop(server: Serving, host: dict[str, str]) -> None:
    ended = interrupted("run", "tiny", "hello", "--temperature", "0", environment=host)
    assert ended == (130, b"")
    server.everything_is_returned()


def test_a_conversation_with_the_servers_model(server: Serving, host: dict[str, str], tmp_path: Path) -> None:
    environment = host | {"TUTTI_HOME": str(tmp_path)}
    with Terminal("run", "tiny", *GREEDY, environment=environment) as terminal:
        terminal.expect(">>> ")
        terminal.type("/show info\n")
        terminal.expect(r"context length\s+4096.*>>> ")
        terminal.type("/list\n")
        terminal.expect(r"NAME\s+ID\s+SIZE\s+MODIFIED.*tiny:latest.*>>> ")
        terminal.type("/set system Be brief.\n")
        terminal.expect("Set system message.*>>> ")
        terminal.type("/set verbose\n")
        terminal.expect("Set 'verbose' mode.*>>> ")
        terminal.type("hello there\n")
        terminal.expect(r"eval count:\s+12 token.*>>> ")
        terminal.type("/set parameter num_predict 4000\n")
        terminal.expect(r"Set parameter.*>>> ")
        terminal.type("go on\n")
        terminal.expect(r"go on\s*\n[^>]{5}")
        terminal.interrupt()
        terminal.expect(r"\n>>> ")
        terminal.type("/load thinker\n")
        terminal.expect("Loading model 'thinker'.*>>> ")
        terminal.type("where?\n")
        terminal.expect(r"\.\.\.done thinking\.\s+<tool_call>.*>>> ")
        terminal.type("/bye\n")
        assert terminal.wait() == 0
    server.everything_is_returned()
    assert "hello there" in (tmp_path / "history").read_text()


def test_ps_and_stop_ask_it(host: dict[str, str]) -> None:
    lines = tutti("ps", "tin", environment=host).stdout.splitlines()
    assert lines[0].split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert lines[1].startswith("tiny:latest ") and "100% CPU" in lines[1]
    assert tutti("stop", "tiny", environment=host).returncode == 0


def test_a_path_is_loaded_here_and_verbose_says_so(host: dict[str, str], checkpoint: Path) -> None:
    result = tutti("run", str(checkpoint), "hello", *GREEDY, "--verbose", environment=host)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[0] == f"in this process: {checkpoint} is a path"
