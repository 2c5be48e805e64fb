"""The metrics in Prometheus' text format: our names, and vLLM's for what its dashboards and autoscalers read.

One number, two names: each family is written once as `tutti_*` and, where vLLM has it, once more as `vllm:*`, with
the label `model_name`. The numbers are the gateway's and the engines'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tutti.gateway.gateway import Gateway
from tutti.gateway.lease import Account
from tutti.gateway.metrics import Histogram

if TYPE_CHECKING:
    from tutti.engine.client import EngineStats

# our name, vLLM's name, what it is; the values are collected in `_gauges`, `_counters`, `_histograms` by our name
_GAUGES = (
    ("requests_running", "num_requests_running", "Sequences that run now."),
    ("requests_waiting", "num_requests_waiting", "Sequences that wait for their turn."),
    ("kv_usage", "kv_cache_usage_perc", "Used share of the KV cache, 0 to 1."),
    ("kv_blocks", None, "Blocks of the KV cache."),
    ("kv_blocks_free", None, "Blocks of the KV cache that are free or hold only cached prefixes."),
    ("engine_memory_peak_bytes", None, "The most memory that the engine's processes have held."),
    ("engine_up", None, "Whether the engine answers."),
    ("sequences_inside", None, "Sequences admitted by the gateway and not yet ended."),
    ("model_loaded", None, "Whether the model is in memory."),
)
_COUNTERS = (
    ("prefix_queries", "prefix_cache_queries", "Prompt tokens looked up in the prefix cache."),
    ("prefix_hits", "prefix_cache_hits", "Prompt tokens found in the prefix cache."),
    ("preemptions", "num_preemptions", "Preemptions."),
    ("engine_steps", None, "Steps of the engine."),
    ("engine_step_seconds", None, "Seconds spent in steps."),
    ("prompt_tokens", "prompt_tokens", "Prompt tokens of answered requests."),
    ("prompt_tokens_cached", "prompt_tokens_cached", "Those of them that came from the prefix cache."),
    ("generation_tokens", "generation_tokens", "Tokens generated."),
    ("requests_refused", "admission_rejections", "Requests turned away because the queue was full."),
    ("media_items", "mm_cache_queries", "Pictures and recordings that encoders were asked for."),
    ("media_hits", "mm_cache_hits", "Those of them that an encoder had seen before."),
    ("audio_underruns", None, "Times that the player of a listener ran dry."),
    ("audio_underrun_seconds", None, "Seconds for which players were dry."),
    ("model_loads", None, "Times that the model was loaded."),
    ("model_load_failures", None, "Times that it could not be loaded."),
    ("model_load_seconds", None, "Seconds that loading it took."),
    ("model_unloads", None, "Times that it was unloaded."),
    ("model_evictions", None, "Those of them that made room for another model."),
)
# our name, its kind, what it is; one value for each stage of the model's graph
_STAGES = (
    ("stage_waiting", GaugeMetricFamily, "Requests, or items of them, that wait for a stage."),
    ("stage_steps", CounterMetricFamily, "Steps of a stage."),
    ("stage_items", CounterMetricFamily, "Items in all batches of a stage; by its steps: the mean batch."),
    (
        "stage_seconds",
        CounterMetricFamily,
        "Seconds spent in a stage's steps; their rate is its utilization.",
    ),
    (
        "stage_skipped",
        CounterMetricFamily,
        "Steps of requests that their feature caches spared most of the network, all rows of them; of its items.",
    ),
)
_HISTOGRAMS = (
    ("time_to_first_token_seconds", "time_to_first_token_seconds", "From arrival to the first token."),
    ("inter_token_seconds", "inter_token_latency_seconds", "Between two tokens of an output."),
    (
        "time_per_output_token_seconds",
        "request_time_per_output_token_seconds",
        "Mean time per token of an output.",
    ),
    ("request_seconds", "e2e_request_latency_seconds", "From arrival to the end."),
    ("queue_seconds", "request_queue_time_seconds", "From arrival to the first step."),
    ("prefill_seconds", "request_prefill_time_seconds", "From the first step to the first token."),
    ("decode_seconds", "request_decode_time_seconds", "From the first token to the last."),
    ("inference_seconds", "request_inference_time_seconds", "From the first step to the last token."),
    ("request_prompt_tokens", "request_prompt_tokens", "Tokens of a prompt."),
    ("request_generation_tokens", "request_generation_tokens", "Tokens of an output."),
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(gateway: Gateway, stats: Mapping[str, EngineStats | None]) -> bytes:
    """Everything, as text. `stats` is by model; None where the engine does not answer now."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(gateway, stats))
    return generate_latest(registry)


class _Snapshot(Collector):
    """The metrics of one moment."""

    def __init__(self, gateway: Gateway, stats: Mapping[str, EngineStats | None]) -> None:
        self._gateway = gateway
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """The families, each under all its names."""
        accounts = {account.name: account for account in self._gateway.accounts}
        there = {served.name for served in self._gateway.served}
        gauges = {name: {"model_loaded": float(name in there)} for name in accounts}
        gauges |= {name: _gauges(accounts[name], self._stats.get(name)) for name in there}
        counters = {name: _counters(one, self._stats.get(name)) for name, one in accounts.items()}
        histograms = {name: _histograms(one) for name, one in accounts.items()}
        yield from _families(GaugeMetricFamily, _GAUGES, gauges)
        yield from _families(CounterMetricFamily, _COUNTERS, counters)
        for ours, theirs, what in _HISTOGRAMS:
            for title in _titles(ours, theirs):
                family = HistogramMetricFamily(title, what, labels=("model_name",))
                for name, found in histograms.items():
                    buckets = [(_bound(bound), float(count)) for bound, count in found[ours].cumulative()]
                    family.add_metric((name,), buckets, found[ours].total)
                yield family
        yield from _stages(self._stats)
        for title in ("tutti_requests_finished", "vllm:request_success"):
            ends = CounterMetricFamily(
                title, "Outputs by how they ended.", labels=("model_name", "finished_reason")
            )
            for account in accounts.values():
                for reason, count in account.metrics.finished.items():
                    ends.add_metric((account.name, reason), count)
            yield ends


def _families(
    kind: Any, table: tuple[tuple[str, str | None, str], ...], values: Mapping[str, Mapping[str, float]]
) -> Iterator[Metric]:
    for ours, theirs, what in table:
        for title in _titles(ours, theirs):
            family = kind(title, what, labels=("model_name",))
            for name, found in values.items():
                if ours in found:
                    family.add_metric((name,), found[ours])
            yield family


def _stages(stats: Mapping[str, EngineStats | None]) -> Iterator[Metric]:
    for ours, kind, what in _STAGES:
        family: Any = kind(f"tutti_{ours}", what, labels=("model_name", "stage"))
        for name, found in stats.items():
            for stage in () if found is None else found.stages:
                values = {
                    "stage_waiting": stage.waiting,
                    "stage_steps": stage.steps,
                    "stage_items": stage.items,
                    "stage_seconds": stage.step_time,
                    "stage_skipped": stage.skipped,
                }
                family.add_metric((name, stage.name), values[ours])
        yield family


def _titles(ours: str, theirs: str | None) -> list[str]:
    return [f"tutti_{ours}"] if theirs is None else [f"tutti_{ours}", f"vllm:{theirs}"]


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))


def _gauges(account: Account, stats: EngineStats | None) -> dict[str, float]:
    found: dict[str, float] = {
        "model_loaded": 1.0,
        "engine_up": float(stats is not None),
        "sequences_inside": account.admission.inside,
    }
    if stats is not None:
        found |= {
            "requests_running": stats.running,
            "requests_waiting": stats.waiting,
            "kv_usage": stats.kv_usage,
            "kv_blocks": stats.blocks_total,
            "kv_blocks_free": stats.blocks_free,
            "engine_memory_peak_bytes": stats.memory_peak,
        }
    return found


def _counters(account: Account, stats: EngineStats | None) -> dict[str, float]:
    metrics = account.metrics
    found: dict[str, float] = {
        "model_loads": metrics.loads,
        "model_load_failures": metrics.load_failures,
        "model_load_seconds": metrics.load_seconds,
        "model_unloads": metrics.unloads,
        "model_evictions": metrics.evictions,
        "prompt_tokens": metrics.prompt_tokens,
        "prompt_tokens_cached": metrics.cached_tokens,
        "generation_tokens": metrics.generation_tokens,
        "requests_refused": account.admission.refused,
    }
    if stats is not None:
        found |= {
            "prefix_queries": stats.prefix_queries,
            "prefix_hits": stats.prefix_hits,
            "media_items": stats.media_items,
            "media_hits": stats.media_hits,
            "audio_underruns": stats.underruns,
            "audio_underrun_seconds": stats.seconds_dry,
            "preemptions": stats.preemptions,
            "engine_steps": stats.steps,
            "engine_step_seconds": stats.step_time,
        }
    return found


def _histograms(account: Account) -> dict[str, Histogram]:
    metrics = account.metrics
    return {
        "time_to_first_token_seconds": metrics.time_to_first_token,
        "inter_token_seconds": metrics.inter_token,
        "time_per_output_token_seconds": metrics.time_per_output_token,
        "request_seconds": metrics.end_to_end,
        "queue_seconds": metrics.queue,
        "prefill_seconds": metrics.prefill,
        "decode_seconds": metrics.decode,
        "inference_seconds": metrics.inference,
        "request_prompt_tokens": metrics.request_prompt_tokens,
        "request_generation_tokens": metrics.request_generation_tokens,
    }
