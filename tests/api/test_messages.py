"""`/v1/messages` by Anthropic's official client, against a real engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from tests.api.serving import CONTEXT, Serving, serving, until
from tests.media.server import Site, site
from tutti.media.fetch import FetchLimits

ROOT = Path(__file__).parents[2]
SHAPES = (ROOT / "docs" / "demo" / "shapes.png").read_bytes()
SEEN = "From left to right: a blue diamond, a yellow star and a blue square."
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
LOOK: Any = {
    "name": "look",
    "description": "Looks somewhere.",
    "input_schema": {
        "type": "object",
        "properties": {"where": {"type": "string", "enum": ["up", "down"]}},
        "required": ["where"],
        "additionalProperties": False,
    },
}
WAIT: Any = {
    "name": "wait",
    "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
}
GREEDY: Any = {"extra_body": {"temperature": 0}}
# A random model that may write white space likes to write nothing else; at this temperature it likes nothing.
RANDOM: Any = {"extra_body": {"temperature": 10}}


def made(served: Serving, **options: Any) -> anthropic.Anthropic:
    given = {"base_url": served.url, "api_key": "none", "max_retries": 0, "timeout": 60, **options}
    return anthropic.Anthropic(**given)


@pytest.fixture
def messages(server: Serving) -> Iterator[anthropic.Anthropic]:
    with made(server) as client:
        yield client


def ask(client: anthropic.Anthropic, **fields: Any) -> Any:
    return client.messages.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 8, **GREEDY, **fields})


def chat(served: Serving, messages: list[Any], **fields: Any) -> Any:
    with served.client() as client:
        return client.chat.completions.create(
            **{"model": "tiny", "messages": messages, "max_tokens": 8, "temperature": 0, **fields}
        )


def test_an_answer_has_anthropics_shape_and_the_chats_words(
    messages: anthropic.Anthropic, server: Serving
) -> None:
    answer = ask(messages, system="Be brief.")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "tiny")
    assert answer.id.startswith("msg_")
    assert answer._request_id == answer.id.removeprefix("msg_")
    assert (answer.stop_reason, answer.stop_sequence) == ("max_tokens", None)
    same = chat(server, [{"role": "system", "content": "Be brief."}, *HELLO])
    assert [(block.type, block.text) for block in answer.content] == [
        ("text", same.choices[0].message.content)
    ]
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == same.usage.prompt_tokens
    assert usage.output_tokens == 8


def test_a_stream_joins_to_the_same_answer(messages: anthropic.Anthropic, server: Serving) -> None:
    whole = ask(messages, max_tokens=20)
    with messages.messages.stream(model="tiny", messages=HELLO, max_tokens=20, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 20)
    total = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens == total
    server.everything_is_returned()


def test_the_raw_stream_has_anthropics_events_in_order(server: Serving) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 4, "stream": True}
    response = httpx.post(f"{server.url}/v1/messages", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in response.text.split("\n\n") if event]
    names = [name.removeprefix("event: ") for name, _ in events]
    values = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [value["type"] for value in values] == names
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert values[0]["message"]["content"] == []
    assert values[0]["message"]["usage"]["input_tokens"] > 0
    assert values[-2]["usage"]["output_tokens"] == 4


def test_a_stop_sequence_ends_the_answer_and_is_named(messages: anthropic.Anthropic) -> None:
    text = ask(messages, max_tokens=60).content[0].text
    stop = text[10:13]
    answer = ask(messages, max_tokens=60, stop_sequences=["never this", stop])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert answer.content[0].text == text[: text.index(stop)]
    with messages.messages.stream(
        model="tiny", messages=HELLO, max_tokens=60, stop_sequences=[stop], **GREEDY
    ) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", stop)
    assert final.content[0].text == answer.content[0].text


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_a_call_that_must_come_comes_parsed(messages: anthropic.Anthropic, choice: dict[str, Any]) -> None:
    tools = [LOOK] if choice["type"] == "any" else [LOOK, WAIT]
    wanted: Any = {**choice, "disable_parallel_tool_use": True}
    answer = ask(messages, max_tokens=300, tools=tools, tool_choice=wanted, **RANDOM)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert (call.type, call.name) == ("tool_use", "look")
    assert call.input["where"] in ("up", "down")
    kinds: list[str] = []
    with messages.messages.stream(
        model="tiny", messages=HELLO, max_tokens=300, tools=tools, tool_choice=wanted, **RANDOM
    ) as stream:
        kinds += [event.type for event in stream]
        final = stream.get_final_message()
    assert "input_json" in kinds
    assert final.stop_reason == "tool_use"
    (streamed,) = final.content
    assert streamed.type == "tool_use"
    assert (streamed.name, set(streamed.input)) == ("look", {"where"})


def test_tools_that_may_be_called_need_not_be(messages: anthropic.Anthropic) -> None:
    assert ask(messages, tools=[LOOK]).stop_reason == "max_tokens"
    assert ask(messages, tools=[LOOK], tool_choice={"type": "none"}).content[0].type == "text"


def test_calls_and_what_tools_answered_are_read_as_in_a_chat(
    messages: anthropic.Anthropic, server: Serving
) -> None:
    ours: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "look up"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Up, then.", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"where": "up"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a bird"}]},
            {"type": "text", "text": "and?"},
        ]},
    ]  # fmt: skip
    function = {"name": "look", "description": LOOK["description"], "parameters": LOOK["input_schema"]}
    theirs: list[Any] = [
        {"role": "user", "content": "look up"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Up, then.", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"where\": \"up\"}"}}
        ]},
        {"role": "tool", "tool_call_id": "t1", "content": "a bird"},
        {"role": "user", "content": "and?"},
    ]  # fmt: skip
    answer = ask(messages, messages=ours, tools=[LOOK])
    same = chat(server, theirs, tools=[{"type": "function", "function": function}])
    assert answer.content[0].text == same.choices[0].message.content
    count = messages.messages.count_tokens(model="tiny", messages=ours, tools=[LOOK])
    assert count.input_tokens == same.usage.prompt_tokens


def test_an_answer_that_is_begun_is_continued(messages: anthropic.Anthropic, server: Serving) -> None:
    begun: list[Any] = [*HELLO, {"role": "assistant", "content": "Once upon"}]
    extra = {"add_generation_prompt": False, "continue_final_message": True}
    same = chat(server, begun, extra_body=extra).choices[0].message.content
    assert ask(messages, messages=begun).content[0].text == same


def test_an_answer_follows_its_schema(messages: anthropic.Anthropic) -> None:
    schema = {**LOOK["input_schema"]}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    answer = ask(messages, max_tokens=200, output_config=config)
    assert answer.stop_reason == "end_turn"
    assert json.loads(answer.content[0].text)["where"] in ("up", "down")


def test_tokens_are_counted_even_beyond_the_context(messages: anthropic.Anthropic) -> None:
    usage = ask(messages, system=[{"type": "text", "text": "Be kind."}]).usage
    count = messages.messages.count_tokens(model="tiny", messages=HELLO, system="Be kind.")
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    long: list[Any] = [{"role": "user", "content": "x" * 2 * CONTEXT}]
    assert messages.messages.count_tokens(model="tiny", messages=long).input_tokens > 2 * CONTEXT


PICTURE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "messages must not be empty"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"max_tokens": CONTEXT}, "context is 4096 tokens"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, r"messages\[0\].content\[0\].*text only"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video' has no place"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            "documents are taken as text",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "'web_search_20250305'"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "leap"}}, "names 'leap'"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"system": [{"type": "text"}]}, r"system\[0\].text must be a string"),
    ],
)
def test_what_cannot_be_served_is_the_callers_error(
    messages: anthropic.Anthropic, fields: dict[str, Any], words: str
) -> None:
    for more in ({}, {"stream": True}):
        with pytest.raises(anthropic.BadRequestError, match=words) as caught:
            ask(messages, **fields, **more)
        body: Any = caught.value.body
        assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
        assert body["request_id"] == caught.value.request_id


def test_what_is_not_here_is_not_found_in_the_same_shape(
    messages: anthropic.Anthropic, server: Serving
) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        ask(messages, model="nobody")
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"
    response = httpx.get(f"{server.url}/v1/messages")
    assert (response.status_code, response.json()["type"]) == (405, "error")
    response = httpx.post(f"{server.url}/v1/messages", json={"messages": HELLO})
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "The field 'max_tokens' is missing.",
    )


def test_either_header_brings_the_key() -> None:
    with serving(keys=("secret",)) as served:
        for given in ({"api_key": "secret"}, {"api_key": None, "auth_token": "secret"}):
            with made(served, **given) as client:
                assert ask(client, max_tokens=1).type == "message"
        body = {"messages": HELLO, "max_tokens": 1}
        response = httpx.post(f"{served.url}/v1/messages", json=body, headers={"x-api-key": "secret"})
        assert response.status_code == 200
        for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": "wrong", "authorization": "Bearer secret"}):
            response = httpx.post(f"{served.url}/v1/messages", json=body, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "authentication_error"


def test_a_client_that_leaves_cancels_its_request(server: Serving) -> None:
    aborted = server.gateway.served[0].metrics.finished["abort"]
    body = {"messages": HELLO, "max_tokens": 3000, "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{server.url}/v1/messages", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: message_start"
        until(lambda: server.stats().running == 1)
    server.everything_is_returned()
    assert server.gateway.served[0].metrics.finished["abort"] == aborted + 1


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as running:
        running.files["/shapes.png"] = SHAPES
        yield running


@pytest.fixture(scope="module")
def pico(web: Site) -> Iterator[Serving]:
    path = str(ROOT / "tutti" / "assets" / "pico")
    fetching = FetchLimits(allow_private=True)
    with serving(model=path, served_model_name=("pico",), fetching=fetching) as served:
        yield served
        served.everything_is_returned()


def picture(web: Site | None) -> dict[str, Any]:
    if web is None:
        data = base64.b64encode(SHAPES).decode()
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    return {"type": "image", "source": {"type": "url", "url": f"{web.url}/shapes.png"}}


def test_pico_sees_a_picture_however_it_comes(pico: Serving, web: Site) -> None:
    for source in (None, web):
        content = [picture(source), {"type": "text", "text": "What is in the picture?"}]
        asked: list[Any] = [{"role": "user", "content": content}]
        with made(pico) as client:
            answer = ask(client, model="pico", messages=asked, max_tokens=64)
            count = client.messages.count_tokens(model="pico", messages=asked)
        assert (answer.content[0].text, answer.stop_reason) == (SEEN, "end_turn")
        usage = answer.usage
        assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_pico_sees_what_a_tool_shows_it(pico: Serving) -> None:
    asked: list[Any] = [
        {"role": "user", "content": "Take a picture."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "take", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [picture(None)]}],
        },
    ]
    with made(pico) as client:
        seen = client.messages.count_tokens(model="pico", messages=asked).input_tokens
        asked[2]["content"][0]["content"] = ""
        assert seen > client.messages.count_tokens(model="pico", messages=asked).input_tokens + 4
