"""`tutti serve` and `tutti bench serve`, as processes that talk over loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import ollama
import openai
import psutil
import pytest

from tests.api.serving import until
from tests.api.stocked import stock
from tests.cli.terminal import TUTTI, tutti


class Server:
    """`tutti serve` as a child process, from its ready line on."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*TUTTI, "serve", *arguments, "--port", "0"],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if match := re.search(r"http://\S+/v1", line):
                self.url = match[0]
                return
        raise AssertionError(f"no ready line: {self.said} {self.process.communicate()[1]}")

    def end(self, sign: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to end; its exit code and what it said on standard error."""
        self.process.send_signal(sign)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    flags = (
        "--max_model_len 200 --gpu-memory-utilization 0.9 --enforce-eager --max-num-seqs 16 --api-key secret"
    )
    running = Server(
        str(checkpoint), "--served-model-name", "tiny", "small", *flags.split(), "--memory", "2GB"
    )
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()


def test_a_vllm_command_line_serves(server: Server) -> None:
    assert re.search(r"serves tiny at http://127\.0\.0\.1:\d+/v1 \(ready in \d+\.\d s\)", server.said)


def test_the_openai_sdk_talks_to_it_under_every_name(server: Server) -> None:
    client = openai.OpenAI(base_url=server.url, api_key="secret")
    assert [model.id for model in client.models.list()] == ["tiny", "small"]
    for name in ("tiny", "small"):
        answer = client.completions.create(model=name, prompt="hello", max_tokens=5, temperature=0)
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 5


def test_the_store_is_behind_its_doors_and_foreign_pages_are_not_let_in(server: Server) -> None:
    url, body = server.url.replace("/v1", "/api/copy"), {"source": "nosuch-model", "destination": "x"}
    key = {"Authorization": "Bearer secret"}
    answer = httpx.post(url, json=body, headers=key, timeout=60)
    assert (answer.status_code, answer.json()) == (404, {"error": 'model "nosuch-model" not found'})
    foreign = {"Origin": "https://evil.example"}
    assert httpx.post(url, json=body, headers=key | foreign, timeout=60).status_code == 403


def test_without_the_key_nobody_gets_in(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url, api_key="wrong").models.list()


def test_bench_serve_measures_it_and_writes_a_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    arguments = (
        "--num-prompts 6 --max-concurrency 3 --random-input-len 10 --random-output-len 8 --api-key secret"
    )
    result = tutti("bench", "serve", "--base-url", server.url, *arguments.split(), "--output-json", str(file))
    assert result.returncode == 0, result.stderr
    assert "TTFT" in result.stdout
    found = json.loads(file.read_text())
    assert (found["completed"], found["failed"], found["model"]) == (6, 0, "tiny")
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (60, 48)
    assert 0 < found["median_ttft_ms"] <= found["median_e2el_ms"]


def test_bench_serve_reports_a_server_that_refuses(server: Server) -> None:
    arguments = "--num-prompts 2 --random-input-len 5000 --api-key secret"
    result = tutti("bench", "serve", "--base-url", server.url, *arguments.split())
    assert result.returncode == 1
    assert "every request failed" in result.stderr
    assert "200 tokens" in result.stderr


def test_a_port_in_use_is_one_line(server: Server, checkpoint: Path) -> None:
    port = re.search(r":(\d+)/", server.url)
    assert port is not None
    result = tutti("serve", str(checkpoint), "--port", port[1])
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port[1]}" in result.stderr.splitlines()[-1]


def test_it_ends_when_told_and_said_its_plan_and_what_it_ignored(server: Server) -> None:
    code, errors = server.end()
    assert code == 0
    assert "memory plan for cpu" in errors
    assert "note: --gpu-memory-utilization is ignored" in errors
    assert "note: --enforce-eager is ignored" in errors
    assert "Traceback" not in errors


def test_logs_are_json_by_flag_in_both_processes(checkpoint: Path) -> None:
    running = Server(str(checkpoint), "--log-format", "json", "--memory", "2GB")
    code, errors = running.end(signal.SIGINT)
    assert code == 0
    entries = [json.loads(line) for line in errors.splitlines()]
    assert any(entry["logger"] == "tutti.engine.core" for entry in entries)


def test_without_a_model_it_serves_the_store_and_leaves_no_process(tmp_path: Path) -> None:
    store = stock(tmp_path)
    running = Server(
        *"--memory 1.2GB --max-num-seqs 4 --dtype float32".split(),
        OLLAMA_MODELS=str(store.root),
        OLLAMA_KEEP_ALIVE="-1",
        OLLAMA_CONTEXT_LENGTH="1024",
    )
    try:
        assert "serves every model of the store at" in running.said
        client = ollama.Client(running.url.removesuffix("/v1"), timeout=280)
        assert {model.model for model in client.list().models} >= {"small:latest", "packed:latest"}
        engines = psutil.Process(running.process.pid)
        assert not engines.children(recursive=True)
        assert client.generate("small", "hello", options={"num_predict": 3}).response
        (model,) = client.ps().models
        assert model.expires_at is not None
        assert (model.expires_at.year > 2200, model.context_length) == (True, 1024)
        client.generate("packed", keep_alive=0)
        (engine,) = engines.children(recursive=True)
        with openai.OpenAI(base_url=running.url, api_key="none", timeout=280) as told:
            assert told.completions.create(model="packed", prompt="a", max_tokens=2).usage is not None
        client.generate("small", keep_alive=0)
        until(lambda: not engine.is_running())
        before = engines.children(recursive=True)
        assert before
        code, errors = running.end()
        assert code == 0
        assert "Traceback" not in errors
        assert not any(child.is_running() for child in before)
    finally:
        running.process.kill()
        running.process.communicate()


def test_an_address_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "ftp://nowhere")
    result = tutti("serve")
    assert result.returncode == 1
    assert "is no address" in result.stderr.splitlines()[-1]
