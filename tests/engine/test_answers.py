"""Greedy answers equal transformers' token for token, whatever the engine does on the way."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch

from tests.models import checkpoints
from tutti import LLM, SamplingParams
from tutti.engine.core import Engine
from tutti.events import Done, Event, TextDelta
from tutti.llm.options import engine_options
from tutti.llm.outputs import RequestOutput
from tutti.request import Request, Tokens

NEW = 16
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
RANDOM = random.Random(7)
PROMPTS = [[RANDOM.randrange(256) for _ in range(length)] for length in (1, 6, 21, 40, 13, 33)]
NAMES = ("llama", "mistral", "gemma3")  # full attention, windows, both

WAYS = {
    "as it comes": {},
    "no prefix cache": {"enable_prefix_caching": False},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "one at a time": {"max_num_seqs": 1},
    "two at a time, small blocks": {"max_num_seqs": 2, "block_size": 4},
}


@cache
def reference(name: str) -> list[list[int]]:
    """transformers, one prompt at a time."""
    model = checkpoints.reference(name)
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=None,
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def make(name: str, **options: object) -> LLM:
    defaults = {
        "dtype": "float32",
        "device": "cpu",
        "memory": "2GB",
        "max_model_len": 96,
        "block_size": 8,
        "threads": 1,
    }
    return LLM(str(checkpoints.cached(name)), **(defaults | options))


def tokens(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def assert_everything_was_given_back(llm: LLM) -> None:
    llm.engine.runner.cache.check()
    assert llm.engine.runner.cache.usage == 0
    assert llm.engine.stats().running == llm.engine.stats().waiting == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_that_of_transformers(name: str, way: str) -> None:
    llm = make(name, **WAYS[way])
    assert tokens(llm.generate(PROMPTS, GREEDY)) == reference(name)
    assert_everything_was_given_back(llm)


@pytest.mark.parametrize("name", NAMES)
def test_a_cached_prefix_changes_no_answer(name: str) -> None:
    llm = make(name)
    assert tokens(llm.generate(PROMPTS, GREEDY)) == reference(name)
    again = llm.generate(PROMPTS, GREEDY)
    assert tokens(again) == reference(name)
    assert sum(output.num_cached_tokens for output in again) > 0
    llm.reset_prefix_cache()
    assert sum(output.num_cached_tokens for output in llm.generate(PROMPTS, GREEDY)) == 0


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_preempted_request_gives_the_same_answer(name: str) -> None:
    one = make(name).engine.plan
    llm = make(
        name, kv_cache_memory_bytes=one.bytes_per_token * (one.context + 2 * one.block_size)
    )  # of the longest
    assert tokens(llm.generate(PROMPTS, GREEDY)) == reference(name)
    assert llm.engine.stats().preemptions > 0
    assert_everything_was_given_back(llm)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [0, 10])
def test_an_answer_goes_on_in_a_full_context_as_behind_what_is_kept(name: str, keep: int) -> None:
    size, wanted = 40, 70
    sampling = SamplingParams(temperature=0.0, max_tokens=wanted, ignore_eos=True)
    requests = [
        Request(id=f"{number}", parts=(Tokens(tuple(ids)),), context=size, shift=keep, sampling=sampling)
        for number, ids in enumerate(PROMPTS[:3])
    ]
    answers: dict[str, list[int]] = {request.id: [] for request in requests}
    ended: dict[str, str] = {}

    def receive(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, TextDelta):
                answers[event.request] += event.tokens
            elif isinstance(event, Done):
                ended[event.request] = event.reason

    options = {"dtype": "float32", "device": "cpu", "memory": "2GB", "max_model_len": 96, "block_size": 8}
    options["threads"] = 1
    engine = Engine(engine_options(str(checkpoints.cached(name)), options), receive)
    for request in requests:
        engine.loop.submit(request)
    engine.loop.run_until(lambda: len(ended) == len(requests))
    assert set(ended.values()) == {"length"}
    assert engine.runner.cache.usage == 0

    model = checkpoints.reference(name)
    for request in requests:
        tokens, expected = list(request.parts[0].ids), []  # type: ignore[union-attr]
        while len(expected) < wanted:
            count = min(size - len(tokens), wanted - len(expected))
            ids = torch.tensor([tokens])
            mask = torch.ones_like(ids)
            out = model.generate(
                ids, attention_mask=mask, max_new_tokens=count, do_sample=False, eos_token_id=None
            )
            expected += out[0, len(tokens) :].tolist()
            tokens = out[0].tolist()
            del tokens[keep : keep + (len(tokens) - keep) // 2]
        assert answers[request.id] == expected


def test_a_salt_keeps_prefixes_apart() -> None:
    llm = make("llama")
    runner = llm.engine.runner
    prompt = list(range(40))
    plain, salted = runner.cache.chain([]), runner.cache.chain(["salt"])
    llm.generate([prompt], GREEDY)
    assert runner.cache.lookup(plain, prompt) > 0
    assert runner.cache.lookup(salted, prompt) == 0


def test_prompt_logprobs_are_the_same_chunked_and_cached() -> None:
    params = SamplingParams(temperature=0.0, max_tokens=2, prompt_logprobs=3, logprobs=2, ignore_eos=True)
    whole = make("llama").generate(PROMPTS, params)
    chunked = make("llama", max_num_batched_tokens=7)
    chunked.generate(PROMPTS, GREEDY)  # fills the prefix cache
    for one, other in zip(whole, chunked.generate(PROMPTS, params), strict=True):
        assert one.prompt_logprobs is not None and other.prompt_logprobs is not None
        assert len(one.prompt_logprobs) == len(one.prompt_token_ids) == len(other.prompt_logprobs)
        for a, b in zip(one.prompt_logprobs[1:], other.prompt_logprobs[1:], strict=True):
            assert a is not None and b is not None and a.keys() == b.keys()
            assert all(abs(a[token].logprob - b[token].logprob) < 1e-4 for token in a)


def test_a_seed_gives_the_same_answer_in_any_batch() -> None:
    llm = make("llama")
    params = [
        SamplingParams(temperature=1.3, top_p=0.9, max_tokens=NEW, ignore_eos=True, seed=k) for k in range(6)
    ]
    together = tokens(llm.generate(PROMPTS, params))
    alone = [tokens(llm.generate([prompt], one))[0] for prompt, one in zip(PROMPTS, params, strict=True)]
    assert together == alone


def test_n_outputs_share_a_prompt_and_differ() -> None:
    llm = make("llama")
    (output,) = llm.generate(
        [PROMPTS[3]], SamplingParams(n=4, temperature=1.5, seed=3, max_tokens=12, ignore_eos=True)
    )
    answers = [tuple(one.token_ids) for one in output.outputs]
    assert len(set(answers)) > 1 and {len(answer) for answer in answers} == {12}
    assert_everything_was_given_back(llm)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_the_answer_on_a_gpu_is_that_of_transformers(name: str) -> None:
    llm = make(name, device="cuda")
    assert tokens(llm.generate(PROMPTS, GREEDY)) == reference(name)
    assert_everything_was_given_back(llm)
    assert "measured" in llm.engine.plan.text()
