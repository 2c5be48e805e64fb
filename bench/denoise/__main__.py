"""Drawing, beside diffusers: `python -m bench.denoise [--rounds 3] [--shapes qwen z] [--quick]`.

Both draw the same requests with the same random weights (`checkpoint.SHAPES`), each in a fresh process, one after the
other in every round.

`one`: a picture of 512 x 512, 20 steps; with Tutti also by each feature cache and threshold, and how alike that picture
is to the one without (PSNR, SSIM).

`mixed`: eight pictures of three sizes and several step counts, which come within eight seconds; until all are there,
and how long each was waited for. diffusers draws them in the order they came in.

`--quick` draws pictures of 32 to 64 pixels with toy networks, to see that everything runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.children import run, save
from bench.denoise import checkpoint
from bench.denoise.likeness import psnr, read, ssim
from bench.denoise.work import WORK, median, percentile

MODELS = Path(".bench/models")
CACHES = ("first_block:0.05", "first_block:0.2", "teacache:0.2", "teacache:0.6")


def main() -> None:
    """Every round, then the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.denoise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=tuple(checkpoint.SHAPES), default=["qwen", "z"])
    parser.add_argument("--work", nargs="+", choices=tuple(WORK), default=list(WORK))
    parser.add_argument("--caches", nargs="+", default=list(CACHES), metavar="NAME:THRESHOLD")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="toy networks and pictures")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for shape in options.shapes:
            for command in commands(shape, options):
                for line in run(command):
                    results.append({"shape": shape, "round": number} | json.loads(line))
                    print(line, flush=True)
    compare(results)
    text = "\n\n".join(
        f"**{checkpoint.SHAPES[shape]}**\n\n{table([one for one in results if one['shape'] == shape])}"
        for shape in options.shapes
    )
    print(text)
    if not options.quick:
        save("denoise", "Drawing", f"{options.rounds} rounds, {options.dtype}", results, text)


def commands(shape: str, options: argparse.Namespace) -> Iterator[list[str]]:
    """The children of a round of a shape: theirs and ours by turns."""
    kind = f"-{shape}-tiny" if options.quick else f"-{shape}"
    model = checkpoint.make(MODELS / f"D1{kind}", shape, tiny=options.quick)
    pictures = MODELS.parent / f"pictures{kind}"
    pictures.mkdir(parents=True, exist_ok=True)
    shared = ["--model", str(model), "--pictures", str(pictures), "--dtype", options.dtype]
    shared += ["--threads", str(options.threads)]
    shared += ["--guided"] if shape == "qwen" else []
    shared += ["--quick"] if options.quick else []
    for work in options.work:
        yield ["bench.denoise.run_diffusers", *shared, "--work", work]
        yield ["bench.denoise.run_tutti", *shared, "--work", work]
        if work == "one":
            for cache in options.caches:
                yield ["bench.denoise.run_tutti", *shared, "--work", work, "--cache", cache]


def compare(results: list[dict[str, Any]]) -> None:
    """Adds to each result of one picture how alike it is to Tutti's without a cache."""
    plain = {
        one["shape"]: one["files"][0]
        for one in results
        if (one["peer"], one["work"], one["cache"]) == ("tutti", "one", "none")
    }
    for one in results:
        if one["work"] == "one" and one["shape"] in plain:
            pair = read(plain[one["shape"]]), read(one["files"][0])
            one |= {"psnr_db": psnr(*pair), "ssim": ssim(*pair)}


def table(results: list[dict[str, Any]]) -> str:
    """Medians of all rounds of a shape, with the ratio to diffusers within each round."""
    lines = [
        "| | | all s | of diffusers' | p50 s | p95 s | small p50 s | skipped steps | PSNR dB | SSIM | peak GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    theirs = {(one["work"], one["round"]): one["total_s"] for one in results if one["peer"] == "diffusers"}
    for work, peer, cache in dict.fromkeys((one["work"], one["peer"], one["cache"]) for one in results):
        rows = [one for one in results if (one["work"], one["peer"], one["cache"]) == (work, peer, cache)]
        ratio = median([one["total_s"] / theirs[work, one["round"]] for one in rows])
        name = peer if cache == "none" else f"{peer}, {cache.replace(':', ' ')}"
        alike = f"{rows[0]['psnr_db']:.1f} | {rows[0]['ssim']:.3f}" if "psnr_db" in rows[0] else " | "
        small = median([percentile(one["small"], 0.5) for one in rows])
        lines.append(
            f"| {work} | {name} | {median([one['total_s'] for one in rows]):.2f} | {ratio:.2f} | "
            f"{median([percentile(one['latencies'], 0.5) for one in rows]):.2f} | "
            f"{median([percentile(one['latencies'], 0.95) for one in rows]):.2f} | "
            f"{'' if work == 'one' else f'{small:.2f}'} | "
            f"{rows[0]['skipped']} of {rows[0]['steps']} | {alike} | "
            f"{median([one['peak_bytes'] for one in rows]) / 1e9:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
