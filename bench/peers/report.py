"""From measurements to the table: medians, ratios within rounds, and the machine's limit beside them.

Owns the values a comparison yields and their Markdown. Measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import limits
from bench.limits import Rates
from bench.peers.checkpoints import SHAPES
from bench.peers.runner import Measurement
from bench.peers.workloads import UNITS, WORKLOADS, Workload, is_better, ratio

OURS = "tutti"


@dataclass(frozen=True, slots=True)
class Entry:
    """One measurement of the contender `name` ("vllm:bf16"). What was spoiled is kept but counts nowhere."""

    name: str
    measured: Measurement
    spoiled: bool


@dataclass(slots=True)
class Comparison:
    """All that was measured on one checkpoint: `rounds[i]` and `rates[i]` belong together."""

    model: str
    rounds: list[list[Entry]] = field(default_factory=list)
    rates: list[Rates] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """The contenders that were measured, in the order they ran."""
        return list(dict.fromkeys(entry.name for entries in self.rounds for entry in entries))

    def values(
        self, name: str, workload: str, of: Callable[[Measurement], float | None]
    ) -> list[float | None]:
        """One value per round; None where there is no sound measurement."""
        found: list[float | None] = []
        for entries in self.rounds:
            sound = [
                e for e in entries if (e.name, e.measured.workload) == (name, workload) and not e.spoiled
            ]
            found.append(of(sound[-1].measured) if sound else None)
        return found

    def median(self, name: str, workload: str) -> float | None:
        """The contender's median in the workload's metric."""
        return _median(self.values(name, workload, lambda measured: measured.value))

    def best_peer(self, workload: Workload, weights: str | None) -> str | None:
        """The peer with the best median, among those with these `weights` or (None) all."""
        best: str | None = None
        for name in self.names():
            system, _, stored = name.partition(":")
            value = self.median(name, workload.name)
            if system == OURS or value is None or weights not in (None, stored):
                continue
            standing = self.median(best, workload.name) if best else None
            if standing is None or is_better(workload.metric, value, standing):
                best = name
        return best

    def paired_ratio(self, name: str, other: str, workload: Workload) -> float | None:
        """Median over rounds of how many times as fast `name` was as `other` in the same round."""
        pairs = zip(
            self.values(name, workload.name, lambda measured: measured.value),
            self.values(other, workload.name, lambda measured: measured.value),
            strict=True,
        )
        return _median([ratio(workload.metric, ours, theirs) for ours, theirs in pairs if ours and theirs])


def _median(values: list[float | None] | list[float]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None


def _number(value: float | None) -> str:
    """Three digits, none wasted: 1234, 123, 12.3, 1.23; empty for None."""
    if value is None:
        return ""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _spread(values: list[float | None]) -> str:
    """Median, and from where to where when there are several: "48.2 (46.0-49.1)"."""
    present = [value for value in values if value is not None]
    middle = _number(_median(values))
    return f"{middle} ({_number(min(present))}-{_number(max(present))})" if len(present) > 1 else middle


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def _measured_rows(result: Comparison, workloads: list[Workload]) -> list[list[str]]:
    """A row per contender, then a row of limits per weight size."""

    def over_process(name: str, of: Callable[[Measurement], float]) -> list[float | None]:
        """Per round the largest of all its workloads: they share one process."""
        columns = [result.values(name, workload.name, of) for workload in workloads]
        return [
            max((v for v in values if v is not None), default=None) for values in zip(*columns, strict=True)
        ]

    rows = []
    for name in result.names():
        system, _, weights = name.partition(":")
        ttft = _median(result.values(name, "W1", lambda measured: measured.ttft_s))
        cells = [
            _spread(result.values(name, workload.name, lambda measured: measured.value))
            for workload in workloads
        ]
        memory = _median(over_process(name, lambda measured: measured.peak_rss_mb))
        ready = _spread(over_process(name, lambda measured: measured.ready_s))
        rows.append([system, weights, *cells, _number(ttft), _number(memory), ready])
    rates = limits.median(result.rates)
    for weights in dict.fromkeys(name.partition(":")[2] for name in result.names()):
        best = [
            _number(limits.limit(SHAPES[result.model], rates, weights, workload)) for workload in workloads
        ]
        rows.append(["*the machine's limit*", weights, *best, "", "", ""])
    return rows


def _ratio_rows(result: Comparison, workloads: list[Workload]) -> list[list[str]]:
    """Ours against the best peer of the same weights, of any weights, and the limit."""
    rates = limits.median(result.rates)
    rows = []
    for name in result.names():
        system, _, weights = name.partition(":")
        if system != OURS:
            continue
        for workload in workloads:
            cells = []
            for among in (weights, None):
                peer = result.best_peer(workload, among)
                times = result.paired_ratio(name, peer, workload) if peer else None
                cells.append(f"{times:.2f}x {peer}" if times else "")
            value = result.median(name, workload.name)
            best = limits.limit(SHAPES[result.model], rates, weights, workload)
            share = f"{100 * ratio(workload.metric, value, best):.0f}%" if value else ""
            rows.append([weights, f"{workload.name} ({workload.title})", *cells, share])
    return rows


def _model_section(result: Comparison) -> list[str]:
    used = {entry.measured.workload for entries in result.rounds for entry in entries}
    workloads = [workload for workload in WORKLOADS.values() if workload.name in used]
    rates = limits.median(result.rates)
    shape = SHAPES[result.model]
    heads = [f"{workload.name} {UNITS[workload.metric]}" for workload in workloads]
    lines = [
        f"## {result.model}",
        "",
        f"{shape.layers} layers, hidden {shape.hidden}, {shape.heads}/{shape.kv_heads} heads of {shape.head_dim}, "
        f"FFN {shape.intermediate}, vocabulary {shape.vocab:,}; random weights. "
        f"{len(result.rounds)} interleaved rounds; median (lowest-highest).",
        "",
        *_table(
            ["", "weights", *heads, "TTFT s", "peak RSS MB", "ready s"], _measured_rows(result, workloads)
        ),
        "",
        f"Limits from rates measured in the same rounds: memory read {rates.read_huge_pages / 1e9:.0f} GB/s with huge "
        f"pages, {rates.read_4k_pages / 1e9:.0f} GB/s with 4 KiB pages; matrix products {rates.gemm_bf16 / 1e12:.2f} "
        f"TFLOP/s in bf16, {rates.gemm_int8 / 1e12:.2f} TOP/s in int8, {rates.gemm_f32 / 1e12:.2f} TFLOP/s in float32.",
        "",
    ]
    ratios = _ratio_rows(result, workloads)
    if ratios:
        head = [
            "ours",
            "workload",
            "against the best of the same weights",
            "against the best of all",
            "of the limit",
        ]
        lines += [
            "Ratios are medians of the rounds' own ratios; above 1 ours is faster.",
            "",
            *_table(head, ratios),
            "",
        ]
    spoiled = [entry for entries in result.rounds for entry in entries if entry.spoiled]
    if spoiled:
        lines += [f"Measurements left out because other processes ran meanwhile: {len(spoiled)}.", ""]
    for failure in result.failures:
        lines += ["Failed:", "", "```", failure.strip(), "```", ""]
    return lines


def markdown(comparisons: list[Comparison], date: str, machine: dict[str, str | int], arguments: str) -> str:
    """The whole page."""
    versions: dict[str, str] = {}
    for result in comparisons:
        for entries in result.rounds:
            versions |= {entry.name.partition(":")[0]: entry.measured.version for entry in entries}
    lines = [
        f"# Peers on {machine['threads']} CPU threads, {date}",
        "",
        f"{machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']} GB, Linux {machine['kernel']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        f"Again: `python -m bench.peers.compare {arguments}`".rstrip(" `") + "`",
        "",
        *(f"- **{workload.name}**: {workload.title}" for workload in WORKLOADS.values()),
        "",
        "W1 counts output tokens after the first, W3 all of them; all in-process, greedy, token ids in and out.",
        "",
    ]
    for result in comparisons:
        lines += _model_section(result)
    return "\n".join(lines)
