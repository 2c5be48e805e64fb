"""Models that write make vectors of prompts: transformers' last hidden states, however the prompt is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.models import checkpoints
from tutti import LLM, PoolingParams, SamplingParams
from tutti.errors import InvalidRequest

PROMPTS = [list(range(1, length + 1)) for length in (1, 5, 33, 64, 40)]
RAW = PoolingParams(normalize=False)


def load(name: str, **options: Any) -> LLM:
    return LLM(str(checkpoints.cached(name)), dtype="float32", threads=1, device="cpu", **options)


def means(name: str) -> torch.Tensor:
    """Of transformers' hidden states after the last norm, [prompts, hidden]."""
    model = checkpoints.reference(name).model
    with torch.inference_mode():
        return torch.stack([model(torch.tensor([one])).last_hidden_state[0].mean(0) for one in PROMPTS])


def found(llm: LLM, wishes: PoolingParams = RAW) -> torch.Tensor:
    return torch.tensor([one.outputs.embedding for one in llm.embed(PROMPTS, pooling_params=wishes)])


@pytest.mark.parametrize("name", ["qwen3", "mistral", "deepseek_v2"])
def test_vectors_equal_transformers_in_pieces_and_in_a_batch(name: str) -> None:
    llm = load(name, max_num_batched_tokens=24)
    expected = means(name)
    torch.testing.assert_close(found(llm), expected, rtol=2e-4, atol=2e-4)
    (stage,) = llm.engine.loop.stats.steps.values()
    assert stage.count > len(PROMPTS)
    normed = F.normalize(expected, dim=-1)
    torch.testing.assert_close(found(llm, PoolingParams()), normed, rtol=2e-4, atol=2e-4)
    assert llm.engine.stats().running == 0


def test_what_is_cached_of_a_prompt_is_no_part_missing(tmp_path: object) -> None:
    llm = load("qwen3", block_size=16)
    greedy = SamplingParams(temperature=0, max_tokens=4)
    before = [one.outputs[0].token_ids for one in llm.generate(PROMPTS, greedy)]
    torch.testing.assert_close(found(llm), means("qwen3"), rtol=2e-4, atol=2e-4)
    assert [one.outputs[0].token_ids for one in llm.generate(PROMPTS, greedy)] == before
    short = llm.embed(PROMPTS[3], pooling_params=PoolingParams(dimensions=4))[0].outputs.embedding
    expected = F.normalize(means("qwen3")[3, :4], dim=0)
    assert short == pytest.approx(expected.tolist(), abs=2e-4)
    with pytest.raises(InvalidRequest, match="vectors have"):
        llm.embed("x", pooling_params=PoolingParams(dimensions=10**4))


def test_who_is_computed_again_is_counted_once() -> None:
    """Blocks for fewer tokens than all prompts have: the last in order give theirs back, and come again."""
    llm = load("qwen3", block_size=16, kv_cache_memory_bytes=_bytes_of_blocks(8), max_num_batched_tokens=16)
    torch.testing.assert_close(found(llm), means("qwen3"), rtol=2e-4, atol=2e-4)
    assert llm.engine.loop.runners["llm"].scheduler.running == []


def _bytes_of_blocks(count: int) -> int:
    """Of 16 tokens of the tiny model, float32."""
    config = checkpoints.reference("qwen3").config
    return count * 16 * config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 4
