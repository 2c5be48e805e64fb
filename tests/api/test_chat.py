"""`/v1/chat/completions` by the official client, against a real engine."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.api.serving import CONTEXT, Serving

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string", "enum": ["up", "down"]}},
            "required": ["where"],
            "additionalProperties": False,
        },
    },
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
WAIT: Any = {"type": "function", "function": {"name": "wait", "parameters": NOTHING}}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}, "open": {"type": "boolean"}},
    "required": ["colour", "open"],
    "additionalProperties": False,
}


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 8, **fields})


def joined(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index
    )


def test_an_answer_has_openais_shape(client: openai.OpenAI) -> None:
    answer = ask(client, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "tiny"
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert choice.logprobs is None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_a_stream_joins_to_the_same_answer(client: openai.OpenAI) -> None:
    whole = ask(client, temperature=0, max_tokens=20)
    chunks = list(
        ask(client, temperature=0, max_tokens=20, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert joined(chunks) == whole.choices[0].message.content
    *body, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens == 20
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert [c.choices[0].finish_reason for c in body] == [None] * (len(body) - 1) + ["length"]
    assert all(chunk.usage is None for chunk in body)
    assert len({chunk.id for chunk in chunks}) == 1


def test_continuous_usage_counts_up(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(ask(client, temperature=0, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 8
    assert len({chunk.usage.prompt_tokens for chunk in chunks}) == 1


def test_the_raw_stream_ends_with_done(server: Serving) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 2, "stream": True}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(line.removeprefix("data: ")) for line in lines[:-2])


async def test_the_asynchronous_client_streams_many_at_once(server: Serving) -> None:
    import asyncio

    async with server.async_client() as client:

        async def one(seed: int) -> str:
            stream = await client.chat.completions.create(
                model="tiny", messages=HELLO, max_tokens=10, stream=True, seed=seed
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        together = await asyncio.gather(*(one(seed) for seed in range(20)))
        assert [await one(seed) for seed in range(3)] == together[
            :3
        ]  # a seed's answer does not depend on company
    server.everything_is_returned()


def test_n_answers_are_interleaved_by_index(client: openai.OpenAI) -> None:
    whole = ask(client, n=3, seed=7, temperature=1.5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    assert whole.usage.completion_tokens == 24
    chunks = list(ask(client, n=3, seed=7, temperature=1.5, stream=True))
    assert [joined(chunks, index) for index in range(3)] == texts
    ends = [c.choices[0].index for c in chunks if c.choices and c.choices[0].finish_reason]
    assert sorted(ends) == [0, 1, 2]


def test_logprobs_come_with_every_token(client: openai.OpenAI) -> None:
    answer = ask(client, temperature=0, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == 8
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # greedy takes the likeliest
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token
    chunks = list(ask(client, temperature=0, logprobs=True, top_logprobs=3, stream=True))
    streamed = [
        e for c in chunks if c.choices and c.choices[0].logprobs for e in c.choices[0].logprobs.content
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]


def test_logprobs_without_alternatives(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True)
    assert all(entry.top_logprobs == [] for entry in answer.choices[0].logprobs.content)


def test_prompt_logprobs_and_token_ids_are_vllms(client: openai.OpenAI) -> None:
    extra = {"prompt_logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": True}
    answer = ask(client, temperature=0, logprobs=True, extra_body=extra).model_dump()
    ids = answer["prompt_token_ids"]
    assert len(ids) == answer["usage"]["prompt_tokens"] == len(answer["prompt_logprobs"])
    assert answer["prompt_logprobs"][0] is None
    assert all(
        str(token) in found for token, found in zip(ids[1:], answer["prompt_logprobs"][1:], strict=True)
    )
    choice = answer["choices"][0]
    names = [entry["token"] for entry in choice["logprobs"]["content"]]
    assert names == [f"token_id:{token}" for token in choice["token_ids"]]


def test_the_prefix_cache_shows_in_the_usage(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "remember this well " * 20}]
    ask(client, messages=messages)
    usage = ask(client, messages=messages).usage
    assert usage.prompt_tokens_details.cached_tokens >= 64
    salted = ask(client, messages=messages, extra_body={"cache_salt": "mine alone"}).usage
    assert salted.prompt_tokens_details.cached_tokens == 0


def test_a_stop_string_ends_the_answer_before_it(client: openai.OpenAI, server: Serving) -> None:
    text = ask(client, temperature=0, max_tokens=60).choices[0].message.content
    stop = text[10:13]
    answer = ask(client, temperature=0, max_tokens=60, stop=[stop, "never this"])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].model_extra["stop_reason"] == stop
    assert answer.usage.completion_tokens < 60
    chunks = list(ask(client, temperature=0, max_tokens=60, stop=stop, stream=True))
    assert joined(chunks) == text[: text.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    server.everything_is_returned()


def test_vllms_sampling_extras_are_heard(client: openai.OpenAI) -> None:
    extra: dict[str, Any] = {"allowed_token_ids": [97, 98], "min_tokens": 5, "ignore_eos": True}
    extra |= {"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1, "skip_special_tokens": False}
    text = ask(client, extra_body=extra).choices[0].message.content
    assert set(text) <= {"a", "b"}
    assert len(text) == 8
    text = ask(client, logit_bias={"99": 100}, temperature=0).choices[0].message.content
    assert text == "c" * 8
    stopped = ask(client, logit_bias={"99": 100}, temperature=0, extra_body={"stop_token_ids": [99]})
    assert stopped.choices[0].message.content == ""
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].model_extra["stop_reason"] == 99


def test_max_completion_tokens_is_the_newer_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_without_max_tokens_the_context_is_the_limit(client: openai.OpenAI) -> None:
    filler: Any = [{"role": "user", "content": "x" * (CONTEXT - 100)}]
    usage = ask(client, messages=filler, max_tokens=None, extra_body={"ignore_eos": True}).usage
    assert usage.total_tokens == CONTEXT


def test_roles_and_parts_are_taken_as_clients_send_them(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"where\": \"up\"}"}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a bird"},
    ]  # fmt: skip
    assert ask(client, messages=messages, tools=[TOOL]).choices[0].finish_reason == "length"


def test_pictures_are_refused_by_a_model_that_reads(client: openai.OpenAI) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError, match="text only") as caught:
        ask(client, messages=[{"role": "user", "content": [part]}])
    assert caught.value.param == "messages[0].content[0]"


def test_the_last_message_can_be_continued_and_echoed(client: openai.OpenAI) -> None:
    messages: list[Any] = [*HELLO, {"role": "assistant", "content": "Once upon"}]
    extra = {"add_generation_prompt": False, "continue_final_message": True, "echo": True}
    answer = ask(client, messages=messages, temperature=0, extra_body=extra)
    assert answer.choices[0].message.content.startswith("Once upon")
    chunks = list(ask(client, messages=messages, temperature=0, extra_body=extra, stream=True))
    assert joined(chunks) == answer.choices[0].message.content


def test_a_template_can_come_with_the_request(client: openai.OpenAI) -> None:
    extra = {
        "chat_template": "{{ mood }}{{ messages[0].content }}",
        "chat_template_kwargs": {"mood": "12345"},
    }
    assert ask(client, extra_body=extra).usage.prompt_tokens == len("12345hello")


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "door", "schema": SCHEMA}}},
        {"extra_body": {"structured_outputs": {"json": SCHEMA}}},
        {"extra_body": {"guided_json": SCHEMA}},
    ],
)
def test_an_answer_follows_its_schema(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    answer = ask(client, max_tokens=200, **fields)
    assert answer.choices[0].finish_reason == "stop"
    made = json.loads(answer.choices[0].message.content)
    assert set(made) == {"colour", "open"}
    assert made["colour"] in ("red", "blue")


def test_an_answer_follows_its_expression_or_choice(client: openai.OpenAI) -> None:
    made = ask(client, extra_body={"structured_outputs": {"regex": "(ab|cd){2}!"}})
    assert made.choices[0].message.content in {a + b + "!" for a in ("ab", "cd") for b in ("ab", "cd")}
    made = ask(client, extra_body={"guided_choice": ["yes", "no"]})
    assert made.choices[0].message.content in ("yes", "no")


def test_the_clients_own_parsing_of_schemas_works(client: openai.OpenAI) -> None:
    from pydantic import BaseModel

    class Door(BaseModel):
        open: bool

    answer = client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=100, response_format=Door)
    assert isinstance(answer.choices[0].message.parsed, Door)


END = {"258": 100}  # a random model would call and call; this one ends as soon as it may


def test_a_required_tool_is_called(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=300, tools=[TOOL, WAIT], tool_choice="required", logit_bias=END)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name in ("look", "wait")
    json.loads(call.function.arguments)


def test_without_parallel_calls_there_is_one(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    assert len(ask(client, max_tokens=300, **fields).choices[0].message.tool_calls) == 1


def test_a_named_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "look"}}
    made = ask(client, max_tokens=300, tools=[TOOL, WAIT], tool_choice=choice).choices[0]
    assert made.finish_reason == "stop"  # as OpenAI has it for a named tool
    assert made.message.tool_calls[0].function.name == "look"
    assert json.loads(made.message.tool_calls[0].function.arguments)["where"] in ("up", "down")


def test_a_streamed_tool_call_joins_to_a_whole_one(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny", messages=HELLO, max_tokens=300, tools=[TOOL], tool_choice="required", logit_bias=END
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    (choice,) = final.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    for call in choice.message.tool_calls:
        assert call.id
        assert call.function.name == "look"
        assert json.loads(call.function.arguments)["where"] in ("up", "down")


def test_tools_that_may_be_called_need_not_be(client: openai.OpenAI) -> None:
    many: Any = [{**TOOL, "function": {**TOOL["function"], "name": f"tool_{k}"}} for k in range(5)]
    assert ask(client, tools=many).choices[0].finish_reason == "length"
    assert ask(client, tools=many, tool_choice="none").choices[0].message.tool_calls is None


def test_the_alias_and_no_name_at_all_lead_to_the_model(server: Serving) -> None:
    with server.client() as client:
        assert ask(client, model="alias").model == "alias"
    response = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1})
    assert response.json()["model"] == "tiny"
