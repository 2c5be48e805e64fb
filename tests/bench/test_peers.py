"""The comparison's arithmetic and files; no peer needs to be installed."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import limits
from bench.peers import meter, report
from bench.peers.checkpoints import SHAPES, make_checkpoint, quantize_w8a8
from bench.peers.runner import Measurement
from bench.peers.workloads import WORKLOADS, ratio

RATES = limits.Rates(
    2, read_huge_pages=70e9, read_4k_pages=40e9, gemm_bf16=0.9e12, gemm_int8=1.6e12, gemm_f32=0.2e12
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("M1-tiny", tmp_path_factory.mktemp("models") / "M1-tiny")


def measured(workload: str, value: float, **changes: object) -> Measurement:
    metric = WORKLOADS[workload].metric
    plain = Measurement("x", workload, "bf16", metric, value, 0.1, 1000.0, 2.0, 0.5, 0.0, 0.0, "1.0")
    return replace(plain, **changes)  # type: ignore[arg-type]


def entry(name: str, workload: str, value: float, spoiled: bool = False) -> report.Entry:
    return report.Entry(name, measured(workload, value), spoiled)


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)
def test_prompts_repeat_for_a_seed_and_share_nothing_between_seeds(workload):
    prompts = workload.prompts(4096, 0)
    assert prompts == workload.prompts(4096, 0)
    assert [len(prompt) for prompt in prompts] == [workload.prompt_tokens] * workload.requests
    assert len({prompt[0] for prompt in prompts}) <= (1 if workload.shared else workload.requests)
    assert workload.prompts(4096, 1)[0][:32] != prompts[0][:32]
    assert all(256 <= token < 4096 for prompt in prompts for token in prompt)


def test_the_primer_brings_the_shared_tokens_and_nothing_else():
    workload = WORKLOADS["W4"]
    primer, prompts = workload.primer(4096, 0), workload.prompts(4096, 0)
    assert all(prompt[: workload.shared] == primer[: workload.shared] for prompt in prompts)
    assert primer not in prompts


def test_limits_agree_with_arithmetic_by_hand():
    m1 = SHAPES["M1"]
    weights = m1.block_parameters + m1.head_parameters
    assert weights == pytest.approx(596e6, rel=0.01)  # what Qwen3-0.6B has
    assert limits.limit(m1, RATES, "bf16", WORKLOADS["W1"]) == pytest.approx(70e9 / (2 * weights), rel=0.03)
    most = 0.9e12 / (2 * m1.block_parameters)
    assert 0.85 * most < limits.limit(m1, RATES, "bf16", WORKLOADS["W2"]) < most
    for workload in WORKLOADS.values():
        bf16, int8 = (limits.limit(m1, RATES, weights, workload) for weights in ("bf16", "int8"))
        assert ratio(workload.metric, int8, bf16) > 1.4


def test_a_checkpoint_is_read_by_transformers_and_every_id_detokenizes(checkpoint):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert sum(parameter.numel() for parameter in model.parameters()) > 2e6
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.decode(tokenizer.encode("bada kilo, 42!")) == "bada kilo, 42!"
    vocab = SHAPES["M1-tiny"].vocab
    assert len(tokenizer) == vocab
    assert all(tokenizer.decode([token]) for token in range(len(tokenizer.all_special_ids), vocab))


def test_a_checkpoint_is_the_same_each_time(checkpoint, tmp_path):
    again = make_checkpoint("M1-tiny", tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (checkpoint / name).read_bytes()


def test_the_int8_copy_differs_from_its_source_by_half_a_step_at_most(checkpoint, tmp_path):
    from safetensors.torch import load_file

    source = load_file(checkpoint / "model.safetensors")
    copy = load_file(quantize_w8a8(checkpoint, tmp_path / "copy") / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    scale = copy[f"{name}_scale"].float()
    error = (copy[name].float() * scale - source[name].float()).abs()
    assert bool(
        (error <= 1.2 * scale).all()
    )  # half a step, and what bf16 rounds off the scale of a large code
    assert copy["model.embed_tokens.weight"].equal(source["model.embed_tokens.weight"])


def test_a_neighbour_counts_as_others_and_ones_own_child_does_not():
    burn = [sys.executable, "-c", "while True: pass"]
    with (
        subprocess.Popen(burn) as child,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as quiet,
    ):
        try:
            before = meter.cpu_seconds(child.pid)
            with meter.Meter(quiet.pid) as seen:
                deadline = time.monotonic() + 30
                while meter.cpu_seconds(child.pid) - before < 0.5 and time.monotonic() < deadline:
                    time.sleep(0.1)
            assert seen.others * max(seen.seconds, 1.0) >= 0.4  # the burner is a stranger to the quiet one
            assert meter.cpu_seconds(quiet.pid) < 0.4
            assert child.pid in meter.process_tree(child.pid)
        finally:
            child.kill()
            quiet.kill()


def test_ratios_pair_within_rounds_and_leave_out_what_was_spoiled():
    rounds = [
        [entry("tutti:bf16", "W3", 200), entry("vllm:bf16", "W3", 100), entry("openvino:int8", "W3", 160)],
        [entry("tutti:bf16", "W3", 100), entry("vllm:bf16", "W3", 50), entry("openvino:int8", "W3", 80)],
        [entry("tutti:bf16", "W3", 300), entry("vllm:bf16", "W3", 999, spoiled=True)],
    ]
    result = report.Comparison("M1", rounds, [RATES] * 3)
    workload = WORKLOADS["W3"]
    assert result.best_peer(workload, "bf16") == "vllm:bf16"
    assert result.best_peer(workload, None) == "openvino:int8"
    assert result.paired_ratio("tutti:bf16", "vllm:bf16", workload) == 2.0
    assert result.median("vllm:bf16", "W3") == 75
    page = report.markdown(
        [result], "2026-01-01", {"cpu": "c", "threads": 2, "memory_gb": 24, "kernel": "6"}, ""
    )
    assert "2.00x vllm:bf16" in page
    assert "ran meanwhile: 1." in page


def test_less_is_better_for_seconds():
    rounds = [
        [entry("tutti:int8", "W4", 2.0), entry("vllm:int8", "W4", 5.0), entry("openvino:int8", "W4", 4.0)]
    ]
    result = report.Comparison("M1", rounds, [RATES])
    assert result.best_peer(WORKLOADS["W4"], "int8") == "openvino:int8"
    assert result.paired_ratio("tutti:int8", "openvino:int8", WORKLOADS["W4"]) == 2.0
