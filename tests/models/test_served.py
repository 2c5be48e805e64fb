"""Through the engine: experts, latent attention, sinks and the fallback answer as transformers, cached or not."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch

from tests.models import checkpoints
from tutti import LLM, SamplingParams

NEW = 12
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
SHARED = random.Random(0).choices(range(256), k=24)
PROMPTS = [SHARED + random.Random(length).choices(range(256), k=length) for length in (1, 6, 17)] + [[7]]
NAMES = ("qwen3_moe", "gpt_oss", "deepseek_v2", "cohere2")


@cache
def reference(name: str) -> list[list[int]]:
    """transformers' greedy tokens, one prompt at a time."""
    model = checkpoints.reference(name)
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, eos_token_id=None
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def serve(name: str, **options: object) -> LLM:
    common = {"dtype": "float32", "memory": "2GB", "max_model_len": 96, "block_size": 4, "threads": 1}
    return LLM(str(checkpoints.cached(name)), **(common | options))


def tokens(llm: LLM) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, GREEDY)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [7, 512])
def test_answers_are_those_of_transformers_with_the_prefix_cache(name: str, budget: int) -> None:
    llm = serve(name, max_num_batched_tokens=budget)
    assert tokens(llm) == reference(name)
    before = llm.engine.stats().prefix_hits
    assert tokens(llm) == reference(name)
    assert llm.engine.stats().prefix_hits > before
    llm.engine.runner.cache.check()


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_transformers_without_the_prefix_cache(name: str) -> None:
    llm = serve(name, enable_prefix_caching=False)
    assert tokens(llm) == reference(name)
    assert llm.engine.stats().prefix_hits == 0
