"""`tutti bench latency` and `throughput`: the engine inside the process."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.terminal import Terminal, tutti


def test_latency_measures_each_batch(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    arguments = "--input-len 8 --output-len 4 --batch-size 2 --num-iters 3 --output-json"
    result = tutti("bench", "latency", str(checkpoint), *arguments.split(), str(file))
    assert result.returncode == 0, result.stderr
    found = json.loads(file.read_text())
    assert len(found["latencies"]) == 3
    assert (found["completed"], found["total_input_tokens"], found["total_output_tokens"]) == (6, 48, 24)
    assert "Seconds per batch" in result.stdout


def test_throughput_shows_a_live_table_on_a_terminal_and_the_numbers_at_the_end(checkpoint: Path) -> None:
    arguments = "--num-prompts 20 --input-len 8 --output-len 60 --prefix-len 8"
    with Terminal("bench", "throughput", str(checkpoint), *arguments.split()) as terminal:
        terminal.expect(r"\d+/20 done, \d+ running")
        terminal.expect(r"20 requests in .* output tokens/s")
        assert terminal.wait() == 0


def test_throughput_refuses_prompts_beyond_the_context(checkpoint: Path) -> None:
    result = tutti("bench", "throughput", str(checkpoint), "--num-prompts", "2", "--input-len", "1000")
    assert result.returncode == 1
    assert "every request failed" in result.stderr
