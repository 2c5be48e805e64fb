"""What all peers' runners share: the command line, the warm-up, the timing and the JSON that comes out.

A runner is a file `run_<peer>.py` with a function `load(job) -> Peer`; it runs inside that peer's environment:

    .bench/vllm/bin/python -m bench.peers.run_vllm --model .bench/models/M1 --workload W1 W3 --weights bf16

It prints one line of JSON for each workload on standard output (whatever the peer prints goes to standard error).
How it is measured, alike for all: in-process, token ids in and out, greedy, exactly N output tokens. TTFT is the time
of an answer of one token to a prompt of the same length (median of three); W1's rate is the other 127 tokens' over
the remaining time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from bench.peers.meter import Meter, peak_rss_mb, seconds_since_start
from bench.peers.workloads import WORKLOADS, Workload

MAX_MODEL_LEN = 2048  # tokens a request may take, for peers that want to know
_WARM_UP_SEED = 1_000_000


class Peer(Protocol):
    """A loaded model of one inference system."""

    version: str

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """Greedy answers of exactly `output_tokens` token ids to all prompts, submitted together."""


@dataclass(frozen=True, slots=True)
class Job:
    """One runner's command line. `kv_gb` is the KV cache in GiB where a peer takes a size; `device` "cpu" or "cuda"."""

    model: Path
    weights: str
    variant: str
    threads: int
    kv_gb: int
    device: str
    vocab_size: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One workload measured once. `value` is in the workload's metric; `others` and `stolen` are in cores.

    `ready_s` counts from the start of the process until the model is loaded; `warmup_s` is the first, slower use.
    """

    peer: str
    workload: str
    weights: str
    metric: str
    value: float
    ttft_s: float | None
    peak_rss_mb: float
    ready_s: float
    warmup_s: float
    others: float
    stolen: float
    version: str

    def as_json(self) -> str:
        """One line; rates also under `tok_s`, times under `seconds`."""
        unit = "seconds" if self.metric == "seconds" else "tok_s"
        return json.dumps(asdict(self) | {unit: self.value})


def _answer(peer: Peer, prompts: list[list[int]], output_tokens: int) -> float:
    """Seconds to answer all prompts. Raises RuntimeError when an answer has another length than asked for."""
    started = time.perf_counter()
    answers = peer.generate(prompts, output_tokens)
    seconds = time.perf_counter() - started
    lengths = {len(answer) for answer in answers}
    if len(answers) != len(prompts) or lengths != {output_tokens}:
        raise RuntimeError(
            f"asked {len(prompts)} prompts for {output_tokens} tokens each, got {len(answers)} answers of {lengths}"
        )
    return seconds


def _warm_up(peer: Peer, workload: Workload, vocab_size: int) -> float:
    """Seconds of a first use: one whole prompt, then a batch of the workload's width with short prompts."""
    prompts = workload.prompts(vocab_size, _WARM_UP_SEED)
    output = min(8, workload.output)
    return _answer(peer, prompts[:1], output) + _answer(peer, [prompt[-16:] for prompt in prompts], output)


def _measure(peer: Peer, workload: Workload, vocab_size: int) -> tuple[float, float | None]:
    """The workload's value in its metric, and TTFT in seconds where one request runs alone."""
    if workload.metric == "decode_tok_s":
        first = [_answer(peer, workload.prompts(vocab_size, seed), 1) for seed in (1, 2, 3)]
        ttft = statistics.median(first)
        total = _answer(peer, workload.prompts(vocab_size, 0), workload.output)
        return (workload.output - 1) / (total - ttft), ttft
    if workload.shared:
        _answer(peer, [workload.primer(vocab_size, 0)], 1)
    seconds = statistics.median(
        _answer(peer, workload.prompts(vocab_size, seed), workload.output) for seed in range(workload.repeats)
    )
    if workload.metric == "prefill_tok_s":
        return workload.prompt_tokens / seconds, seconds
    if workload.metric == "output_tok_s":
        return workload.requests * workload.output / seconds, None
    return seconds, None


def measure(name: str, peer: Peer, job: Job, workload: Workload, ready_s: float) -> Measurement:
    """Warms up, measures `workload` once on the loaded `peer`."""
    warmup_s = _warm_up(peer, workload, job.vocab_size)
    with Meter() as meter:
        value, ttft_s = _measure(peer, workload, job.vocab_size)
    return Measurement(
        peer=name,
        workload=workload.name,
        weights=job.weights,
        metric=workload.metric,
        value=value,
        ttft_s=ttft_s,
        peak_rss_mb=peak_rss_mb(os.getpid()),
        ready_s=ready_s,
        warmup_s=warmup_s,
        others=meter.others,
        stolen=meter.stolen,
        version=peer.version,
    )


def main(
    name: str, load: Callable[[Job], Peer], *, weights: tuple[str, ...], variants: tuple[str, ...] = ("",)
) -> None:
    """A runner's whole program. `weights` and `variants` are what this peer can do; the first is the default."""
    parser = argparse.ArgumentParser(prog=f"bench.peers.run_{name}", description=f"Measures {name}.")
    parser.add_argument(
        "--model", type=Path, required=True, help="a checkpoint folder made by bench.peers.prepare"
    )
    parser.add_argument("--workload", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--weights", choices=weights, default=weights[0])
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv-gb", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()

    answers_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # peers write to standard output, some from C++
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # read once, when the peer's libraries load
    os.environ["HF_HUB_OFFLINE"] = "1"
    config = json.loads((given.model / "config.json").read_text())
    job = Job(
        model=given.model.resolve(),
        weights=given.weights,
        variant=given.variant,
        threads=given.threads,
        kv_gb=given.kv_gb,
        device=given.device,
        vocab_size=config["vocab_size"],
    )
    peer = load(job)
    ready_s = seconds_since_start(os.getpid())
    shown = "-".join(filter(None, (name, "" if job.variant == variants[0] else job.variant)))
    for workload in given.workload:
        print(measure(shown, peer, job, WORKLOADS[workload], ready_s).as_json(), file=answers_to, flush=True)
    answers_to.close()
