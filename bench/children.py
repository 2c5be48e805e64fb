"""What benchmarks that run peers in processes of their own share: the children, the machine's line, and the files."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tutti.cli.machine import read_cpu

RESULTS = Path("bench/results")


def run(command: list[str]) -> list[str]:
    """The lines of JSON that a child prints; its failure ends the benchmark."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()


def save(kind: str, subject: str, more: str, results: list[dict[str, Any]], text: str) -> None:
    """Writes today's `results` of a `kind` of benchmark, and a page: `subject`, date, `more`; the machine; `text`."""
    today = datetime.date.today()
    stem = RESULTS / f"{today}-{kind}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1))
    cpu = read_cpu()
    machine = f"{cpu.model}, {cpu.usable} cores, {', '.join(cpu.instructions)}."
    stem.with_suffix(".md").write_text(f"# {subject}, {today}, {more}\n\n{machine}\n\n{text}\n")
