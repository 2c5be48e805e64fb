"""Speech, beside transformers: `python -m bench.omni [--rounds 3] [--tiny]`.

Both answer the same prompts aloud from the same checkpoint (`checkpoint.SHAPE`), one after the other in every round,
each in a fresh process. Reported are the times to the first text and the first sound, the real-time factor (time over
the sound's length), and how often the player of a listener would have run dry for over 100 ms.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.omni.checkpoint import SHAPE, make

RESULTS = Path("bench/results")


def main() -> None:
    """Every round, then the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.omni", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a toy checkpoint, to see that everything runs")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    model = make(Path(".bench/models") / ("O1-tiny" if options.tiny else "O1"), tiny=options.tiny)
    shared = ["--model", str(model), "--concurrency", *map(str, options.concurrency)]
    if options.tiny:
        shared += ["--codes", "60", "--text-tokens", "8"]
    results: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for module in ("run_tutti", "run_hf"):
            command = [sys.executable, "-m", f"bench.omni.{module}", *shared]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{module} failed:\n{done.stderr[-2000:]}")
            for line in done.stdout.splitlines():
                results.append(json.loads(line) | {"round": number})
                print(line, flush=True)
    text = table(results)
    print(text)
    if not options.tiny:
        stem = RESULTS / f"{datetime.date.today()}-omni"
        stem.with_suffix(".json").write_text(json.dumps(results, indent=1))
        stem.with_suffix(".md").write_text(f"# Speech, {datetime.date.today()}\n\n{SHAPE}\n\n{text}\n")


def table(results: list[dict[str, Any]]) -> str:
    """Medians of all rounds, with the ratio to transformers within each round."""
    lines = [
        "| | requests | first text s | first sound s | all s | RTF | sound/s of transformers | underruns |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kinds = dict.fromkeys((r["peer"], r["way"], r["requests"]) for r in results)
    rates = {r["round"]: r["sound_s"] / r["total_s"] for r in results if r["peer"] == "transformers"}
    for peer, way, requests in kinds:
        rows = [r for r in results if (r["peer"], r["way"], r["requests"]) == (peer, way, requests)]
        ratio = statistics.median(r["sound_s"] / r["total_s"] / rates[r["round"]] for r in rows)
        middle = {
            name: statistics.median(r[name] for r in rows)
            for name in ("text_s", "first_s", "total_s", "rtf", "underruns")
        }
        lines.append(
            f"| {peer}, {way} | {requests} | {middle['text_s']:.2f} | {middle['first_s']:.2f} | "
            f"{middle['total_s']:.1f} | {middle['rtf']:.2f} | {ratio:.1f}x | {middle['underruns']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
