"""Every family gives transformers' logits and tokens in float32, alone and in mixed batches, chunked or whole."""

from __future__ import annotations

import functools
import random

import pytest
import torch

from tests.models import checkpoints, driver
from tutti.graph import resolve
from tutti.models.protocols import CausalModel
from tutti.models.registry import find_graph

NEW = 12
PROMPTS = [random.Random(length).choices(range(256), k=length) for length in (1, 5, 21, 40)]
SERVED = {"phi3": {"context": 64}}  # its original context, within which the short factors serve


@functools.cache
def ours(name: str) -> CausalModel:
    return driver.load_model(checkpoints.cached(name), **SERVED.get(name, {}))


@functools.cache
def theirs(name: str) -> tuple[list[torch.Tensor], list[list[int]]]:
    """transformers' logits of each prompt and its greedy continuation, one prompt at a time."""
    model = checkpoints.reference(name)
    logits, tokens = [], []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            logits.append(model(ids).logits[0])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
            )
        tokens.append(out[0, len(prompt) :].tolist())
    return logits, tokens


@pytest.mark.parametrize("name", checkpoints.names("text"))
@pytest.mark.parametrize("chunk", [7, 1000])
def test_logits_of_a_mixed_batch_equal_transformers(name: str, chunk: int) -> None:
    for mine, reference in zip(
        driver.prompt_logits(ours(name), PROMPTS, chunk), theirs(name)[0], strict=True
    ):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", checkpoints.names("text"))
@pytest.mark.parametrize("chunk", [7, 1000])
def test_greedy_tokens_of_a_mixed_batch_equal_transformers(name: str, chunk: int) -> None:
    assert driver.greedy(ours(name), PROMPTS, NEW, chunk) == theirs(name)[1]


@pytest.mark.parametrize("name", checkpoints.names("text"))
def test_greedy_tokens_alone_equal_those_in_a_batch(name: str) -> None:
    alone = [driver.greedy(ours(name), [prompt], NEW)[0] for prompt in PROMPTS]
    assert alone == theirs(name)[1]


@pytest.mark.parametrize("name", checkpoints.names("text"))
def test_the_described_shape_is_the_built_model(name: str) -> None:
    config = checkpoints.reference(name).config.to_dict()
    shape = resolve(find_graph(config).stages[0].describe)(config)
    model = ours(name)
    assert (shape.groups, shape.vocab) == (model.groups, model.vocab_size)
    assert shape.context == config.get("text_config", config)["max_position_embeddings"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["qwen3", "gemma3", "falcon", "qwen3_moe", "gpt_oss", "deepseek_v2", "cohere2"]
)
def test_greedy_tokens_on_a_gpu_equal_those_on_the_cpu(name: str) -> None:
    model = driver.load_model(checkpoints.cached(name), device="cuda")
    assert driver.greedy(model, PROMPTS, NEW, 7, device="cuda") == theirs(name)[1]
