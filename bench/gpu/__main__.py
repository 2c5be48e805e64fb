"""Tutti alone on a GPU: workloads W1 to W4, with the device's own limits beside them.

    python -m bench.gpu                              M1 (Qwen3-0.6B's shape) and G8 (Llama-3.1-8B's shape), bf16
    python -m bench.gpu --models M1 --weights bf16 int8
    python -m bench.gpu --device cpu --models M1-tiny       does it run at all?

Needs torch and what the package needs, no network and no installation: run it from the repository's root. Random
weights are drawn on the device and written to `--into` (G8: 16 GB), then loaded as any checkpoint is. Each model runs
in a process of its own, so that its memory is its own. The results go to bench/results/<date>-<device>.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import limits
from bench.peers import runner
from bench.peers.checkpoints import MODELS, SHAPES, make_checkpoint
from bench.peers.meter import seconds_since_start
from bench.peers.run_tutti import TuttiPeer
from bench.peers.workloads import UNITS, WORKLOADS, ratio


def _measure_model(name: str, weights: str, given: argparse.Namespace) -> dict[str, Any]:
    """All workloads of one model, in this process: measurements, limits, the device's memory."""
    import torch

    on_gpu = given.device == "cuda"
    rates = limits.measure_cuda() if on_gpu else limits.measure(given.threads)
    folder = make_checkpoint(name, given.into / name, device=given.device)
    shape = SHAPES[name]
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = runner.Job(
        model=folder.resolve(),
        weights=weights,
        variant="",
        threads=given.threads,
        kv_gb=given.kv_gb,
        device=given.device,
        vocab_size=shape.vocab,
    )
    before = seconds_since_start(os.getpid())
    peer = TuttiPeer(job)
    loaded_s = seconds_since_start(os.getpid()) - before
    rows = []
    for workload in WORKLOADS.values():
        measured = runner.measure("tutti", peer, job, workload, loaded_s)
        rows.append(asdict(measured) | {"limit": limits.limit(shape, rates, weights, workload)})
    return {
        "model": name,
        "weights": weights,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "rates": asdict(rates),
        "load_s": loaded_s,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else None,
        "measurements": rows,
    }


def _in_own_process(name: str, weights: str) -> dict[str, Any] | None:
    """This program again, for one model. None when it failed; what it said is on standard error."""
    command = [sys.executable, "-m", "bench.gpu", *sys.argv[1:], "--only", f"{name}:{weights}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _lines(result: dict[str, Any]) -> list[str]:
    """The result as a few lines of text."""
    rates = limits.Rates(**result["rates"])
    memory = f", peak {result['peak_device_mb']:.0f} MB on the device" if result["peak_device_mb"] else ""
    lines = [
        f"{result['model']} {result['weights']} on {result['device']}: loaded in {result['load_s']:.1f} s{memory}; "
        f"memory read {rates.read / 1e9:.0f} GB/s, bf16 {rates.gemm_bf16 / 1e12:.3g} TFLOP/s, "
        f"int8 {rates.gemm_int8 / 1e12:.3g} TOP/s",
    ]
    for row in result["measurements"]:
        ttft = f", TTFT {1000 * row['ttft_s']:.1f} ms" if row["ttft_s"] else ""
        share = 100 * ratio(row["metric"], row["value"], row["limit"])
        lines.append(
            f"  {row['workload']}  {row['value']:10.4g} {UNITS[row['metric']]:6}  {share:3.0f}% of the limit "
            f"({row['limit']:.4g}){ttft}"
        )
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=["M1", "G8"])
    parser.add_argument("--weights", nargs="+", choices=("bf16", "int8"), default=["bf16"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kv-gb", type=int, default=4, help="GiB of KV cache")
    parser.add_argument("--into", type=Path, default=MODELS, help="where the checkpoints are written")
    parser.add_argument("--results", type=Path, default=Path("bench/results"))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        name, _, weights = given.only.partition(":")
        print(json.dumps(_measure_model(name, weights, given)))
        return

    results = []
    failed = []
    for name in given.models:
        for weights in given.weights:
            result = _in_own_process(name, weights)
            if result is None:
                failed.append(f"{name}:{weights}")
                continue
            results.append(result)
            print("\n".join(_lines(result)), flush=True)
    if results:
        device = "".join(c if c.isalnum() else "-" for c in results[0]["device"].lower())
        path = given.results / f"{datetime.datetime.now(tz=datetime.UTC).date().isoformat()}-{device}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written: {path}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)} (see above)")


if __name__ == "__main__":
    main()
