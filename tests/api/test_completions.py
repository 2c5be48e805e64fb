"""`/v1/completions` by the official client, against a real engine."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.api.serving import Serving


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.completions.create(**{"model": "tiny", "prompt": "abc", "max_tokens": 6, **fields})


def test_an_answer_has_openais_shape(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": 3,
        "completion_tokens": 6,
        "total_tokens": 9,
    }


def test_the_default_is_16_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="abc", extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_every_form_of_prompt_is_taken(client: openai.OpenAI) -> None:
    text = ask(client, temperature=0).choices[0].text
    assert ask(client, prompt=[97, 98, 99], temperature=0).choices[0].text == text
    many = ask(client, prompt=["abc", "xyz", "abc"], temperature=0)
    assert [choice.index for choice in many.choices] == [0, 1, 2]
    assert many.choices[0].text == many.choices[2].text == text
    assert many.choices[1].text == ask(client, prompt="xyz", temperature=0).choices[0].text
    assert many.usage.prompt_tokens == 9
    lists = ask(client, prompt=[[97, 98, 99], [120, 121, 122]], temperature=0)
    assert [choice.text for choice in lists.choices] == [many.choices[0].text, many.choices[1].text]


def test_prompts_and_outputs_are_numbered_together(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"prompt": ["abc", "xyz"], "n": 2, "seed": 5, "temperature": 1.3}
    whole = ask(client, **fields)
    texts = [choice.text for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    streamed = [""] * 4
    ends = []
    for chunk in ask(client, **fields, stream=True):
        (choice,) = chunk.choices
        streamed[choice.index] += choice.text
        if choice.finish_reason:
            ends.append(choice.index)
    assert streamed == texts
    assert sorted(ends) == [0, 1, 2, 3]
    assert whole.usage.prompt_tokens == 6
    assert whole.usage.completion_tokens == 24


def test_more_prompts_than_run_at_once_are_all_answered(client: openai.OpenAI, server: Serving) -> None:
    prompts = [f"prompt {k}" for k in range(700)]  # of 512 places
    answer = ask(client, prompt=prompts, max_tokens=1)
    assert len(answer.choices) == 700
    assert answer.usage.completion_tokens == 700
    server.everything_is_returned()


def test_echo_puts_the_prompt_before_the_answer(client: openai.OpenAI) -> None:
    text = ask(client, temperature=0).choices[0].text
    assert ask(client, temperature=0, echo=True).choices[0].text == "abc" + text
    assert ask(client, temperature=0, echo=True, prompt=[97, 98, 99]).choices[0].text == "abc" + text
    streamed = ask(client, temperature=0, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "abc" + text


@pytest.mark.parametrize("echo", [False, True])
def test_logprobs_are_lists_over_the_tokens(client: openai.OpenAI, echo: bool) -> None:
    answer = ask(client, temperature=0, logprobs=2, echo=echo)
    found = answer.choices[0].logprobs
    count = 9 if echo else 6
    assert (
        len(found.tokens)
        == len(found.token_logprobs)
        == len(found.top_logprobs)
        == len(found.text_offset)
        == count
    )
    assert (found.token_logprobs[0] is None) is echo
    assert all(value <= 0 for value in found.token_logprobs[echo:])
    rows = list(zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True))
    for token, logprob, top in rows[echo:]:
        assert 1 <= len(top) <= 3
        assert top[token] == logprob
    offsets = [sum(map(len, found.tokens[:k])) for k in range(count)]
    assert found.text_offset == offsets
    streamed = list(ask(client, temperature=0, logprobs=2, echo=echo, stream=True))
    parts = [chunk.choices[0].logprobs for chunk in streamed if chunk.choices[0].logprobs]
    assert [token for part in parts for token in part.tokens] == found.tokens
    assert [offset for part in parts for offset in part.text_offset] == offsets


def test_a_prompt_can_be_scored_without_an_answer(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=0, echo=True, logprobs=1)
    assert answer.choices[0].text == "abc"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 0
    scores = answer.choices[0].logprobs.token_logprobs
    assert scores[0] is None
    assert len(scores) == 3
    scored = ask(client, prompt="abcd", max_tokens=0, echo=True, logprobs=1).choices[0].logprobs
    assert scored.token_logprobs[:3] == pytest.approx(scores, abs=1e-4)


def test_best_of_gives_the_likeliest(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"seed": 11, "temperature": 1.5}
    all_of_them = ask(client, **fields, n=6, logprobs=0)
    ranked = sorted(all_of_them.choices, key=lambda choice: -sum(choice.logprobs.token_logprobs))
    best = ask(client, **fields, n=2, best_of=6)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.choices[0].logprobs is None
    assert best.usage.completion_tokens == 36


def test_a_stream_tells_its_usage_when_asked(client: openai.OpenAI) -> None:
    *body, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.total_tokens == 9
    assert all(chunk.usage is None for chunk in body)


def test_an_answer_follows_a_grammar(client: openai.OpenAI) -> None:
    grammar = 'root ::= ("left" | "right") "!"'
    made = ask(client, max_tokens=20, extra_body={"guided_grammar": grammar}).choices[0]
    assert made.text in ("left!", "right!")
    made = ask(
        client, max_tokens=20, extra_body={"structured_outputs": {"choice": ["left", "right"]}}
    ).choices[0]
    assert made.text in ("left", "right")


def test_a_suffix_is_refused_where_the_model_does_not_insert(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not write between two texts"):
        ask(client, suffix="the end")


def test_an_empty_prompt_is_refused(client: openai.OpenAI) -> None:
    empty: list[Any] = ["", [], [[]]]
    for prompt in empty:
        with pytest.raises(openai.BadRequestError, match="prompt") as caught:
            ask(client, prompt=prompt)
        assert caught.value.param == "prompt"


async def test_the_asynchronous_client_works(server: Serving) -> None:
    async with server.async_client() as client:
        stream = await client.completions.create(model="tiny", prompt="abc", max_tokens=5, stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "length"
