"""`/v1/responses` by the official client, against a real engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.serving import CONTEXT, Serving, serving, until

ROOT = Path(__file__).parents[2]
SHAPES = (ROOT / "docs" / "demo" / "shapes.png").read_bytes()
SEEN = "From left to right: a blue diamond, a yellow star and a blue square."
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PARAMETERS = {
    "type": "object",
    "properties": {"where": {"type": "string", "enum": ["up", "down"]}},
    "required": ["where"],
    "additionalProperties": False,
}
LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": PARAMETERS,
    "strict": True,
}
RANDOM = 10  # a random model that may write white space likes to write nothing else; here it likes nothing
WAIT: Any = {"type": "function", "name": "wait", "parameters": {"type": "object", "properties": {}}}


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    given = {"model": "tiny", "input": "hello", "max_output_tokens": 8, "temperature": 0, **fields}
    return client.responses.create(**given)


def chat(client: openai.OpenAI, messages: list[Any], **fields: Any) -> Any:
    given = {"model": "tiny", "messages": messages, "max_tokens": 8, "temperature": 0, **fields}
    return client.chat.completions.create(**given)


def test_a_response_has_openais_shape_and_the_chats_words(client: openai.OpenAI) -> None:
    answer = ask(client, instructions="Be brief.", metadata={"a": "b"}, user="me")
    assert (answer.object, answer.model, answer.status) == ("response", "tiny", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.error is None
    same = chat(client, [{"role": "system", "content": "Be brief."}, *HELLO])
    assert answer.output_text == same.choices[0].message.content
    (message,) = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "incomplete")
    assert message.content[0].annotations == []
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (same.usage.prompt_tokens, 8)
    assert answer.usage.total_tokens == same.usage.total_tokens
    assert (answer.temperature, answer.max_output_tokens, answer.instructions) == (0, 8, "Be brief.")
    assert (answer.metadata, answer.user, answer.tool_choice) == ({"a": "b"}, "me", "auto")
    assert answer.text.format.type == "text"


def test_an_answer_follows_its_schema(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "look", "schema": PARAMETERS, "strict": True}}
    answer = ask(client, text=form, max_output_tokens=200, temperature=RANDOM)
    assert (answer.status, set(json.loads(answer.output_text))) == ("completed", {"where"})
    assert answer.text.format.to_dict() == form["format"]
    free = ask(client, text={"format": {"type": "json_object"}}, max_output_tokens=4)
    assert free.output_text.strip()[:1] in ("{", "")


def test_the_clients_own_parsing_of_schemas_works(client: openai.OpenAI) -> None:
    from pydantic import BaseModel

    class Door(BaseModel):
        open: bool

    answer = client.responses.parse(model="tiny", input="hello", temperature=RANDOM, text_format=Door)
    assert isinstance(answer.output_parsed, Door)


def test_the_raw_stream_has_openais_events_in_order(server: Serving) -> None:
    body = {"input": "hello", "max_output_tokens": 4, "stream": True, "temperature": 0}
    response = httpx.post(f"{server.url}/v1/responses", json=body)
    events = [event.split("\n") for event in response.text.split("\n\n") if event]
    values = [json.loads(data.removeprefix("data: ")) for _, data in events]
    names = [value["type"] for value in values]
    assert [name.removeprefix("event: ") for name, _ in events] == names
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(names[4:-4]) == {"response.output_text.delta"}
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert values[0]["response"]["status"] == "in_progress"
    text = "".join(value["delta"] for value in values[4:-4])
    assert text == values[-4]["text"] == values[-1]["response"]["output"][0]["content"][0]["text"]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "look"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
    ],
)
def test_a_call_that_must_come_comes(client: openai.OpenAI, choice: Any) -> None:
    tools = [LOOK] if choice == "required" else [LOOK, WAIT]
    given: Any = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False, "temperature": RANDOM}
    answer = ask(client, max_output_tokens=300, **given)
    assert answer.status == "completed"
    (call,) = answer.output
    assert (call.type, call.name, call.status) == ("function_call", "look", "completed")
    assert json.loads(call.arguments)["where"] in ("up", "down")
    with client.responses.stream(model="tiny", input="hello", max_output_tokens=300, **given) as stream:
        events = list(stream)
        final = stream.get_final_response()
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (streamed,) = final.output
    assert streamed.type == "function_call"
    assert "".join(pieces) == streamed.arguments
    assert json.loads(streamed.arguments)["where"] in ("up", "down")


def test_a_call_and_its_output_are_read_as_in_a_chat(client: openai.OpenAI) -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "look up"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Up."}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"where": "up"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "a bird"},
    ]
    function = {key: LOOK[key] for key in ("name", "description", "parameters", "strict")}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where": "up"}'}}
    messages: list[Any] = [
        {"role": "user", "content": "look up"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Up.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a bird"},
    ]
    answer = ask(client, input=items, tools=[LOOK])
    same = chat(client, messages, tools=[{"type": "function", "function": function}])
    assert answer.output_text == same.choices[0].message.content
    assert answer.usage.input_tokens == same.usage.prompt_tokens


def test_a_response_is_followed_up_asked_for_and_deleted(client: openai.OpenAI) -> None:
    first = ask(client, instructions="Be kind.")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = ask(client, input="and then?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    begun = [*HELLO, {"role": "assistant", "content": first.output_text}]
    same = chat(client, [*begun, {"role": "user", "content": "and then?"}])  # without the instructions
    assert second.output_text == same.choices[0].message.content
    assert second.usage.input_tokens == same.usage.prompt_tokens
    client.responses.delete(first.id)
    third = ask(client, input="more", previous_response_id=second.id)  # it holds the whole conversation
    assert third.usage.input_tokens > second.usage.input_tokens
    for use in (
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.delete(first.id),
        lambda: ask(client, previous_response_id=first.id),
        lambda: ask(client, previous_response_id=ask(client, store=False).id),
    ):
        with pytest.raises(openai.NotFoundError, match="There is no response"):
            use()


def test_a_streamed_response_is_kept_too(client: openai.OpenAI) -> None:
    events = list(ask(client, stream=True))
    final = events[-1].response
    assert client.responses.retrieve(final.id).output_text == final.output_text


def test_a_response_belongs_to_its_key() -> None:
    with serving(keys=("mine", "yours")) as served, served.client(api_key="mine") as mine:
        answer = ask(mine)
        assert mine.responses.retrieve(answer.id).id == answer.id
        with served.client(api_key="yours") as yours, pytest.raises(openai.NotFoundError):
            yours.responses.retrieve(answer.id)
        with served.client(api_key="wrong") as wrong, pytest.raises(openai.AuthenticationError):
            wrong.responses.retrieve(answer.id)


def test_what_is_too_long_is_refused_or_cut(client: openai.OpenAI) -> None:
    turns = [{"role": "user", "content": f"{number}" * 400} for number in range(8)]
    answers = [{"role": "assistant", "content": "yes" * 100}] * 8
    long: list[Any] = [item for pair in zip(turns, answers, strict=True) for item in pair]
    long.append({"role": "user", "content": "hello"})
    with pytest.raises(openai.BadRequestError, match="context is 4096 tokens") as caught:
        ask(client, input=long)
    assert caught.value.code == "context_length_exceeded"
    cut = ask(client, input=long, truncation="auto", instructions="Be brief.")
    assert CONTEXT - 800 < cut.usage.input_tokens <= CONTEXT - 8
    kept = [{"role": "system", "content": "Be brief."}, *long[-11:]]
    assert cut.usage.input_tokens == chat(client, kept).usage.prompt_tokens
    with pytest.raises(openai.BadRequestError, match="context is 4096 tokens"):
        ask(client, input="x" * CONTEXT, truncation="auto")


FILE = {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": []}, "input", "must not be empty"),
        ({"input": [{"role": "user", "content": [FILE]}]}, "input[0].content[0]", "'input_file'"),
        ({"input": [{"role": "user", "content": [PICTURE]}]}, "input[0].content[0]", "takes text only"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", "'item_reference'"),
        ({"tools": [LOOK, {"type": "web_search"}]}, "tools[1]", "'web_search'"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "leap"}}, "tool_choice", "'leap'"),
        ({"tools": [LOOK], "tool_choice": {"type": "file_search"}}, "tool_choice", "'file_search'"),
        ({"background": True}, "background", "not supported"),
        ({"include": ["message.output_text.logprobs"]}, "include", "not supported"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "needs a schema"),
        ({"temperature": -1}, "temperature", "temperature must be"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    client: openai.OpenAI, fields: dict[str, Any], param: str, words: str
) -> None:
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            ask(client, **fields, **more)
        assert caught.value.param == param


def test_what_agents_send_along_is_taken(client: openai.OpenAI) -> None:
    given: Any = {
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "prompt_cache_key": "x",
        "service_tier": "auto",
        "store": False,
    }
    answer = ask(client, **given)
    assert (answer.reasoning.effort, answer.store if hasattr(answer, "store") else False) == ("low", False)


def test_a_client_that_leaves_cancels_its_request(server: Serving) -> None:
    aborted = server.gateway.served[0].metrics.finished["abort"]
    body = {"input": "hello", "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: response.created"
        until(lambda: server.stats().running == 1)
    server.everything_is_returned()
    assert server.gateway.served[0].metrics.finished["abort"] == aborted + 1


@pytest.fixture(scope="module")
def pico() -> Iterator[Serving]:
    path = str(ROOT / "tutti" / "assets" / "pico")
    with serving(model=path, served_model_name=("pico",)) as served:
        yield served
        served.everything_is_returned()


def test_a_stream_joins_to_the_same_response(pico: Serving) -> None:
    asked = "What is 7 plus 8?"
    given: Any = {"model": "pico", "temperature": 0}
    with pico.client() as client:
        whole = client.responses.create(input=asked, **given)
        with client.responses.stream(input=asked, **given) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        same = chat(client, [{"role": "user", "content": asked}], model="pico", max_tokens=None)
    assert (
        text == final.output_text == whole.output_text == same.choices[0].message.content == "7 plus 8 is 15."
    )
    assert (final.status, whole.status) == ("completed", "completed")
    assert final.usage is not None
    assert final.usage.output_tokens == same.usage.completion_tokens


def test_pico_sees_and_remembers_what_it_saw(pico: Serving) -> None:
    picture = {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{base64.b64encode(SHAPES).decode()}",
    }
    content = [picture, {"type": "input_text", "text": "What is in the picture?"}]
    with pico.client() as client:
        asked: list[Any] = [{"role": "user", "content": content}]
        first = ask(client, model="pico", input=asked, max_output_tokens=64)
        assert (first.status, first.output_text) == ("completed", SEEN)
        again = "What is in the picture?"
        second = ask(client, model="pico", input=again, previous_response_id=first.id, max_output_tokens=64)
        assert "diamond" in second.output_text
