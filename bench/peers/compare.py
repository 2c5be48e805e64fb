"""The paired comparison: every peer on the same files, interleaved, on a machine that is otherwise idle.

    python -m bench.peers.compare --models M1 --rounds 3       the table (M1: about half an hour on two cores)
    python -m bench.peers.compare --quick                      one round, the fastest peers (about five minutes)
    python -m bench.peers.compare --peers tutti:int8 openvino:int8 --workloads W3

In a round each peer runs once, in a fresh process of its own environment (`bench/peers/setup.sh`), one after the other:
A B C A B C A B C. Rates that drift, as this machine's memory does, then hit all alike, and ratios are taken within a
round. The machine's limits are measured in each round too. A measurement during which another process ran is repeated.

Owns the order, the watch over idleness and the results file; `report` makes the table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.limits import Rates
from bench.peers import report
from bench.peers.checkpoints import SHAPES
from bench.peers.meter import wait_until_idle
from bench.peers.prepare import prepare
from bench.peers.runner import Measurement
from bench.peers.workloads import WORKLOADS

RESULTS = Path("bench/results")
_ALLOWED_CORES = 0.05  # of load by others before a run, and
_SPOILED_CORES = 0.10  # during a measurement; stolen by the hypervisor counts as well
_ATTEMPTS = 3
_TIME_LIMIT_S = 1800  # for one runner's process


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer in one configuration: `python -m bench.peers.run_<module>` in the environment `home`."""

    module: str
    weights: str
    variant: str = ""
    home: str = ""

    @property
    def python(self) -> Path:
        """The interpreter of its environment; ours is the one that runs."""
        return Path(f".bench/{self.home}/bin/python") if self.home else Path(sys.executable)

    @property
    def name(self) -> str:
        """What it is called on the command line: "vllm-compiled:bf16"."""
        return "-".join(filter(None, (self.module, self.variant))) + f":{self.weights}"


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("tutti", "bf16"),
        Contender("tutti", "int8"),
        Contender("vllm", "bf16", home="vllm"),
        Contender("vllm", "bf16", "compiled", home="vllm"),
        Contender("vllm", "int8", home="vllm"),
        Contender("vllm", "int8", "compiled", home="vllm"),
        Contender("openvino", "bf16", home="openvino"),
        Contender("openvino", "int8", home="openvino"),
        Contender("hf", "bf16", home="hf"),
    )
}
_QUICK = ("tutti:bf16", "tutti:int8", "vllm:bf16", "openvino:int8")


class RunFailed(Exception):
    """A runner's process ended without its measurements."""


def _run(contender: Contender, model: Path, workloads: list[str], threads: int) -> Iterator[Measurement]:
    """One fresh process. Raises RunFailed with the end of what it wrote to standard error."""
    command = [str(contender.python), "-m", f"bench.peers.run_{contender.module}"]
    command += ["--model", str(model), "--weights", contender.weights, "--threads", str(threads)]
    command += ["--variant", contender.variant] if contender.variant else []
    command += ["--workload", *workloads]
    with tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=_TIME_LIMIT_S, check=False
            )
            problem = f"exit status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"took longer than {_TIME_LIMIT_S} s"
        if problem:
            errors.seek(0)
            raise RunFailed(f"{contender.name}: {problem}\n  {' '.join(command)}\n{errors.read()[-2000:]}")
    for line in done.stdout.splitlines():
        fields = json.loads(line)
        yield Measurement(**{name: fields[name] for name in Measurement.__slots__})


def _is_spoiled(measurement: Measurement) -> bool:
    return measurement.others > _SPOILED_CORES or measurement.stolen > _SPOILED_CORES


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How strictly and how often to measure."""

    rounds: int
    threads: int
    workloads: list[str]
    idle_limit_s: float
    force: bool  # measure however busy the machine is; nothing counts as spoiled


def _await_idle(conditions: Conditions) -> None:
    """Raises SystemExit when others keep the machine busy for longer than the limit."""
    if conditions.force:
        return
    load = wait_until_idle(conditions.idle_limit_s, _ALLOWED_CORES)
    if load > _ALLOWED_CORES:
        raise SystemExit(
            f"other processes use {load:.2f} cores; nothing measured now would be worth keeping. Stop them, or give a "
            "longer --idle-limit, or --force to measure all the same"
        )


def _measure_rates(conditions: Conditions) -> Rates:
    command = [sys.executable, "-m", "bench.limits", "--threads", str(conditions.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Rates(**json.loads(done.stdout))


def _measure_once(contender: Contender, model: Path, conditions: Conditions) -> list[report.Entry]:
    """All workloads of one round of one contender; what was spoiled is repeated, and kept as spoiled at last."""
    entries: list[report.Entry] = []
    waiting = list(conditions.workloads)
    for attempt in range(1, _ATTEMPTS + 1):
        _await_idle(conditions)
        for measured in _run(contender, model, waiting, conditions.threads):
            spoiled = _is_spoiled(measured) and not conditions.force
            unit = "s" if measured.metric == "seconds" else "tok/s"
            _say(
                f"{contender.name} {measured.workload} {measured.value:.4g} {unit}"
                + (f", spoiled: others used {measured.others:.2f} cores" if spoiled else "")
            )
            if not spoiled or attempt == _ATTEMPTS:
                entries.append(report.Entry(contender.name, measured, spoiled))
        waiting = [name for name in waiting if name not in {entry.measured.workload for entry in entries}]
        if not waiting:
            break
    return entries


def compare(
    result: report.Comparison, contenders: list[Contender], conditions: Conditions, save: Callable[[], None]
) -> None:
    """Measures all contenders on `result.model`, round by round, into `result`; saves after each round.

    A contender that fails drops out, and is named.
    """
    model = prepare(result.model, {each.name.replace("vllm-compiled", "vllm") for each in contenders})
    standing = list(contenders)
    for number in range(1, conditions.rounds + 1):
        _say(f"{result.model}: round {number} of {conditions.rounds}")
        _await_idle(conditions)
        result.rates.append(_measure_rates(conditions))
        entries: list[report.Entry] = []
        for contender in list(standing):
            try:
                entries += _measure_once(contender, model, conditions)
            except RunFailed as failure:
                _say(str(failure))
                result.failures.append(str(failure))
                standing.remove(contender)
        result.rounds.append(entries)
        save()


def _machine(threads: int) -> dict[str, str | int]:
    """What a reader must know of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "threads": threads,
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release().partition("-")[0],
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.peers.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=["M1"])
    parser.add_argument(
        "--peers", nargs="+", choices=list(CONTENDERS), help="default: all but vllm-compiled:int8"
    )
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help=f"one round of {', '.join(_QUICK)}")
    parser.add_argument("--idle-limit", type=float, default=120.0, help="seconds to wait for an idle machine")
    parser.add_argument("--force", action="store_true", help="measure a busy machine (for trying this out)")
    parser.add_argument("--into", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """The command line. Writes <date>-cpu-<threads>core.json and .md, prints the table."""
    given = _parse()
    default = _QUICK if given.quick else [name for name in CONTENDERS if name != "vllm-compiled:int8"]
    contenders = [CONTENDERS[name] for name in given.peers or default]
    absent = sorted({each.home for each in contenders if not each.python.exists()})
    if absent:
        raise SystemExit(
            f"not installed: {', '.join(absent)}. Install with: bench/peers/setup.sh {' '.join(absent)}"
        )
    conditions = Conditions(
        rounds=given.rounds or (1 if given.quick else 3),
        threads=given.threads,
        workloads=given.workloads,
        idle_limit_s=given.idle_limit,
        force=given.force,
    )
    comparisons = [report.Comparison(name) for name in given.models]
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    machine = _machine(given.threads)
    stem = given.into / f"{today}-cpu-{given.threads}core"

    def save() -> None:
        measured = [each for each in comparisons if each.rounds]
        document = {
            "date": today,
            "machine": machine,
            "models": {each.model: asdict(each) for each in measured},
        }
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
        stem.with_suffix(".md").write_text(report.markdown(measured, today, machine, " ".join(sys.argv[1:])))

    for comparison in comparisons:
        compare(comparison, contenders, conditions, save)
    print(stem.with_suffix(".md").read_text())
    _say(f"written: {stem}.json, {stem}.md")


if __name__ == "__main__":
    main()
