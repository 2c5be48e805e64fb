"""`tutti fit`: the sum before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from tests.cli.terminal import tutti
from tests.models import checkpoints
from tests.models.pipelines import pipeline


def test_a_model_that_fits_shows_where_each_byte_goes(checkpoint: Path) -> None:
    result = tutti("fit", str(checkpoint), "--memory", "2GB", "--context", "128", "--concurrency", "4")
    assert result.returncode == 0, result.stderr
    for part in ("weights", "activations", "KV cache", "total", "It fits", "128 tokens of context"):
        assert part in result.stdout


def test_a_model_that_does_not_fit_is_exit_code_1_with_the_sum(checkpoint: Path) -> None:
    result = tutti("fit", str(checkpoint), "--memory", "1MB")
    assert result.returncode == 1
    assert "It does not fit" in result.stdout
    assert "total" in result.stdout


def test_the_question_may_be_about_a_larger_machine_than_this(checkpoint: Path) -> None:
    assert tutti("fit", str(checkpoint), "--memory", "64TB", "--concurrency", "2").returncode == 0


def test_a_context_beyond_the_models_is_refused(checkpoint: Path) -> None:
    result = tutti("fit", str(checkpoint), "--context", "1M")
    assert result.returncode == 1
    assert "256" in result.stderr


def test_stages_on_devices_of_their_own_have_a_plan_each_in_one_budget() -> None:
    path = str(checkpoints.cached("qwen2_5_omni"))
    result = tutti(
        "fit", path, "--memory", "2GB", "--device", "cpu", "--place", "talker=cpu:1,token2wav=cpu:1"
    )
    assert result.returncode == 0, result.stderr
    here, there = result.stdout.split("beside it on cpu:1")
    assert "KV cache" in here and "KV of talker" not in here
    assert "KV of talker" in there and "It fits" in there
    refused = tutti("fit", path, "--place", "mouth=cpu:1")
    assert refused.returncode == 1 and "no such stage" in refused.stderr


def test_ranks_have_a_plan_each() -> None:
    path = str(pipeline("flux_dev")[1])
    result = tutti("fit", path, "--memory", "6GB", "--device", "cpu", "--tensor-parallel-size", "2")
    assert result.returncode == 0, result.stderr
    assert "beside it on cpu (rank 1)" in result.stdout and "It fits" in result.stdout
    refused = tutti("fit", str(checkpoints.cached("qwen3")), "--tensor-parallel-size", "2")
    assert refused.returncode == 1 and "models that do nothing but draw or film" in refused.stderr
