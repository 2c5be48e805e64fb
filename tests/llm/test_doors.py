"""The Python doors: what callers of `LLM` and `AsyncLLM` see."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import torch

from tests.models import checkpoints
from tutti import LLM, AsyncLLM, BeamSearchParams, SamplingParams, StructuredOutputs
from tutti.errors import ConfigError, ContextOverflow, InvalidRequest, ModelNotFound
from tutti.events import Done, TextDelta

OPTIONS = {"dtype": "float32", "device": "cpu", "memory": "2GB", "threads": 1, "max_model_len": 128}
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
MESSAGES = [{"role": "user", "content": "What is red?"}]


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(str(checkpoints.cached("llama")), **OPTIONS)


@pytest.fixture
async def stream() -> AsyncIterator[AsyncLLM]:
    async with await AsyncLLM.open(str(checkpoints.cached("llama")), in_process=True, **OPTIONS) as opened:
        yield opened


def test_a_chat_is_the_rendered_template_continued(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    (answer,) = llm.chat(MESSAGES, GREEDY)
    (same,) = llm.generate({"prompt_token_ids": answer.prompt_token_ids}, GREEDY)
    assert "What is red?" in tokenizer.decode(answer.prompt_token_ids)
    assert answer.outputs[0].token_ids == same.outputs[0].token_ids
    assert [len(one.outputs) for one in llm.chat([MESSAGES, MESSAGES], GREEDY)] == [1, 1]


def test_text_ids_and_dicts_are_the_same_prompt(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("red circle")
    outputs = llm.generate(["red circle", ids, {"prompt": "red circle"}, {"prompt_token_ids": ids}], GREEDY)
    assert len({tuple(output.outputs[0].token_ids) for output in outputs}) == 1
    assert outputs[0].prompt == "red circle" and outputs[0].finished
    assert outputs[0].outputs[0].finish_reason == "length"


def test_a_stop_string_ends_the_text_before_it(llm: LLM) -> None:
    whole = llm.generate("abc", GREEDY)[0].outputs[0].text
    stop = whole[4:6]
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, stop=(stop,))
    cut = llm.generate("abc", params)[0].outputs[0]
    assert cut.text == whole[: whole.index(stop)]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", stop)
    assert llm.engine.runner.cache.usage == 0


def test_logprobs_name_the_chosen_token_and_the_likeliest(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True, logprobs=2)
    output = llm.generate("abc", params)[0].outputs[0]
    assert output.logprobs is not None and output.cumulative_logprob is not None
    assert [set(one) >= {token} for one, token in zip(output.logprobs, output.token_ids, strict=True)] == [
        True
    ] * 3
    chosen = [one[token].logprob for one, token in zip(output.logprobs, output.token_ids, strict=True)]
    assert sum(chosen) == pytest.approx(output.cumulative_logprob)


def test_a_form_is_kept(llm: LLM) -> None:
    params = SamplingParams(
        temperature=1.0, seed=1, max_tokens=40, structured_outputs=StructuredOutputs(regex="[ab]{3}")
    )
    assert re.fullmatch("[ab]{3}", llm.generate("abc", params)[0].outputs[0].text)


def test_one_request_that_cannot_be_served_raises_and_the_others_are_done(llm: LLM) -> None:
    before = llm.engine.stats().generation_tokens
    with pytest.raises(ContextOverflow, match="128"):
        llm.generate([[1] * 10, [1] * 500], GREEDY)
    assert llm.engine.stats().generation_tokens - before == 12
    assert llm.engine.runner.cache.usage == 0


def test_a_beam_of_one_is_greedy(llm: LLM) -> None:
    params = BeamSearchParams(beam_width=1, max_tokens=12, ignore_eos=True)
    (found,) = llm.beam_search("abc", params)
    prompt = llm.get_tokenizer().encode("abc")
    assert found.sequences[0].tokens == prompt + llm.generate("abc", GREEDY)[0].outputs[0].token_ids


def test_a_wide_beam_finds_the_likeliest_pair_of_tokens(llm: LLM) -> None:
    prompt = llm.get_tokenizer().encode("abc")
    model = checkpoints.reference("llama")
    with torch.inference_mode():
        first = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        pairs = torch.tensor([[*prompt, token] for token in range(len(first))])
        both = first[:, None] + model(pairs).logits[:, -1].log_softmax(-1)
    best = divmod(int(both.argmax()), both.shape[1])
    (found,) = llm.beam_search([prompt], BeamSearchParams(beam_width=20, max_tokens=2, ignore_eos=True))
    assert tuple(found.sequences[0].tokens[-2:]) == best
    assert found.sequences[0].cum_logprob == pytest.approx(float(both.max()), abs=1e-3)
    scores = [beam.cum_logprob for beam in found.sequences]
    assert scores == sorted(scores, reverse=True) and len(scores) == 20


def test_wrong_options_are_named() -> None:
    with pytest.raises(InvalidRequest, match="max_model_length"):
        LLM("pico", max_model_length=3)
    with pytest.raises(ModelNotFound, match="nosuch"):
        LLM("nosuch")
    with pytest.raises(ConfigError, match="memory"):
        LLM(str(checkpoints.cached("llama")), memory="much")


async def test_a_stream_gives_the_text_of_the_batch(stream: AsyncLLM, llm: LLM) -> None:
    pieces = [piece async for piece in stream.text("abc", GREEDY)]
    assert "".join(pieces) == llm.generate("abc", GREEDY)[0].outputs[0].text
    events = [event async for event in stream.stream(MESSAGES, GREEDY)]
    assert isinstance(events[-1], Done)
    tokens = [token for event in events if isinstance(event, TextDelta) for token in event.tokens]
    assert tokens == llm.chat(MESSAGES, GREEDY)[0].outputs[0].token_ids


async def test_a_stream_that_cannot_be_served_raises(stream: AsyncLLM) -> None:
    with pytest.raises(ContextOverflow):
        async for _ in stream.text([1] * 500, GREEDY):
            pass
