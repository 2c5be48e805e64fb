"""`python -m bench.gguf.speed`: the speed of GGUF files here and in llama.cpp, one after the other in every round.

    bench/peers/setup.sh llamacpp        # once
    python -m bench.gguf.speed           # prints a table, writes it to bench/results/

The files are M1's shape (Qwen3-0.6B's, random weights) as `tutti quantize` writes it. Of each: the tokens a second of
one answer, of a prompt of 512 tokens, and of eight answers at once. Each child is a fresh process with two threads.
What is measured is the computing alone, without sampling (llama.cpp) or with the greedy choice (here).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from bench.children import run, save
from bench.peers import checkpoints

MODELS = Path(".bench/models")
TYPES = ("Q8_0", "Q4_0", "Q4_K_M")
WORK = ("one", "prompt", "eight")
PEER = Path(__file__).with_name("run_llamacpp.py")


def main() -> None:
    """Every round, then the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gguf.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peer", type=Path, default=Path(".bench/llamacpp/bin/python"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=TYPES)
    parser.add_argument("--tiny", action="store_true", help="a toy checkpoint, to see that everything runs")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for kind in options.types:
            file = make("M1-tiny" if options.tiny else "M1", kind)
            given = [str(file), str(options.threads)]
            for peer, lines in (
                ("tutti", run(["bench.gguf.run_tutti", *given])),
                ("llama.cpp", _peer(options.peer, *given)),
            ):
                found = {"peer": peer, "type": kind, "round": number} | json.loads(lines[-1])
                print(json.dumps(found), flush=True)
                results.append(found)
    text = table(results)
    print(text)
    if not options.tiny:
        shape = (
            "Qwen3-0.6B's shape, random weights; tokens a second, medians, and ratios within each round.\n\n"
        )
        save(
            "gguf-speed",
            "GGUF files, here and in llama.cpp",
            f"{options.rounds} rounds",
            results,
            shape + text,
        )


def make(name: str, kind: str) -> Path:
    """The GGUF file of the checkpoint `name` in `kind`, made where it is not there."""
    file = MODELS / f"{name}-{kind}.gguf"
    if not file.exists():
        folder = MODELS / name
        if not (folder / "config.json").exists():
            checkpoints.make_checkpoint(name, folder)
        run(["tutti", "quantize", str(folder), str(file), "--type", kind.replace("Q", "q", 1)])
    return file


def table(results: list[dict[str, Any]]) -> str:
    """Medians of all rounds, and the median of the rounds' ratios."""
    lines = ["| file | work | tutti | llama.cpp | ratio |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(one["type"] for one in results):
        for work in WORK:
            ours, theirs = (
                [one[work] for one in results if (one["peer"], one["type"]) == (peer, kind)]
                for peer in ("tutti", "llama.cpp")
            )
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            lines.append(
                f"| {kind} | {work} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} | {ratio:.2f}x |"
            )
    return "\n".join(lines)


def _peer(python: Path, *given: str) -> list[str]:
    done = subprocess.run([python, PEER, *given], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
