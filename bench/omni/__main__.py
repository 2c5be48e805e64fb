"""Speech, beside transformers: `python -m bench.omni [--rounds 3] [--parts speech memory turns] [--tiny]`.

`--model qwen3` speaks by a checkpoint of Qwen3-Omni's shape instead of Qwen2.5-Omni's (`speech` alone).

`speech`: both answer the same prompts aloud from the same checkpoint (`checkpoint.SHAPE`), one after the other in every
round, each in a fresh process. Reported are the times to the first text and the first sound, the real-time factor (time
over the sound's length), and how often the player of a listener would have run dry for over 100 ms.

`memory`: the peak memory of a process that answers in text about a recording of five minutes, and about a video of two.

`turns`: the time to the first token of a second turn about the same picture, beside that of text alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.children import run, save
from bench.omni import checkpoint, checkpoint3
from bench.omni.media import LENGTHS, TINY, make_file

MODELS = Path(".bench/models")


def main() -> None:
    """Every round, then the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.omni", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=tuple(TABLES))
    parser.add_argument("--model", choices=("qwen2.5", "qwen3"), default="qwen2.5")
    parser.add_argument("--tiny", action="store_true", help="a toy checkpoint, to see that everything runs")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    later = options.model == "qwen3"
    options.parts = options.parts or (["speech"] if later else list(TABLES))
    if later and options.parts != ["speech"]:
        parser.error("--model qwen3 has the part speech alone")
    options.seconds = 1.2 if options.tiny else 10
    name, module = ("O3", checkpoint3) if later else ("O1", checkpoint)
    model = module.make(MODELS / (f"{name}-tiny" if options.tiny else name), tiny=options.tiny)
    results: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for part in options.parts:
            for command in PARTS[part](model, options):
                for line in run(command):
                    results.append({"what": "speech"} | json.loads(line) | {"round": number})
                    print(line, flush=True)
    tables = [TABLES[part]([one for one in results if one["what"] == part]) for part in options.parts]
    text = "\n\n".join(tables)
    print(text)
    if not options.tiny:
        kind = f"omni{'3' if later else ''}"
        save(kind, "Speech", f"{options.rounds} rounds", results, f"{module.SHAPE}\n\n{text}")


def speech(model: Path, options: argparse.Namespace) -> Iterator[list[str]]:
    """The children of a round: ours, then theirs."""
    shared = ["--model", str(model), "--concurrency", *map(str, options.concurrency)]
    shared += ["--codes", str(round(options.seconds * (12.5 if options.model == "qwen3" else 50)))]
    if options.tiny:
        shared += ["--text-tokens", "8"]
    for module in ("run_tutti", "run_hf"):
        yield [f"bench.omni.{module}", *shared]


def memory(model: Path, options: argparse.Namespace) -> Iterator[list[str]]:
    """For each medium ours, then theirs."""
    for kind, seconds in (TINY if options.tiny else LENGTHS).items():
        file = make_file(MODELS.parent / "media", kind, seconds)
        for peer in ("tutti", "transformers"):
            what = ["--peer", peer, "--kind", kind, "--file", str(file), "--model", str(model)]
            yield ["bench.omni.run_memory", *what]


def turns(model: Path, options: argparse.Namespace) -> Iterator[list[str]]:
    """Ours alone."""
    yield ["bench.omni.run_turns", "--model", str(model)]


def speech_table(results: list[dict[str, Any]]) -> str:
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


def memory_table(results: list[dict[str, Any]]) -> str:
    """Medians of all rounds, and the share of transformers' memory that is not needed."""
    lines = [
        "| peak memory | prompt tokens | tutti | transformers | less | answer s | transformers' |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(one["kind"] for one in results):
        middle = {
            (peer, name): statistics.median(
                one[name] for one in results if (one["kind"], one["peer"]) == (kind, peer)
            )
            for peer in ("tutti", "transformers")
            for name in ("peak_bytes", "answer_s", "prompt_tokens")
        }
        ours, theirs = (middle[peer, "peak_bytes"] / 1e9 for peer in ("tutti", "transformers"))
        lines.append(
            f"| {kind} | {middle['tutti', 'prompt_tokens']:,.0f} | {ours:.2f} GB | {theirs:.2f} GB | "
            f"{1 - ours / theirs:.0%} | {middle['tutti', 'answer_s']:.1f} | {middle['transformers', 'answer_s']:.1f} |"
        )
    return "\n".join(lines)


def turns_table(results: list[dict[str, Any]]) -> str:
    """Medians of all conversations, in milliseconds."""
    middle = {
        name: statistics.median(one[name] for one in results) * 1000
        for name in ("first_s", "second_s", "second_read_s", "text_first_s", "text_second_s")
    }
    return "\n".join(
        (
            "| first token, ms | first turn | second turn | of which reading the picture |",
            "|---|---|---|---|",
            f"| about a picture | {middle['first_s']:.0f} | {middle['second_s']:.0f} | {middle['second_read_s']:.0f} |",
            f"| text alone, as many tokens | {middle['text_first_s']:.0f} | {middle['text_second_s']:.0f} | |",
        )
    )


PARTS = {"speech": speech, "memory": memory, "turns": turns}
TABLES = {"speech": speech_table, "memory": memory_table, "turns": turns_table}


if __name__ == "__main__":
    main()
