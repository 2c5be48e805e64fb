"""The parts of the doors with one answer: conversations in other forms, deltas as blocks and items, what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import pytest

from tests.api.serving import CONTEXT, Serving, checkpoint, serving
from tutti.api.anthropic.blocks import Blocks
from tutti.api.anthropic.fields import PromptFields
from tutti.api.anthropic.prompt import read_prompt
from tutti.api.openai.parse import parse
from tutti.api.openai.responses.answers import COMPLETED, INCOMPLETE, Response
from tutti.api.openai.responses.items import ItemReader, input_items
from tutti.api.openai.responses.output import Output
from tutti.api.openai.responses.store import Kept, ResponseStore, StoreLimits
from tutti.errors import InvalidRequest, NotFound
from tutti.models.parsers.base import ContentDelta, Delta, ReasoningDelta, ToolCallDelta

SAID: list[Delta] = [
    ReasoningDelta("Hm"),
    ReasoningDelta("."),
    ContentDelta("I "),
    ContentDelta("look."),
    ToolCallDelta(0, "c0", "look"),
    ToolCallDelta(0, "c0", arguments='{"where": '),
    ToolCallDelta(0, "c0", arguments='"up"}'),
    ToolCallDelta(1, "c1", "wait"),
    ToolCallDelta(1, "c1", arguments="{}"),
]


def prompt(messages: list[Any], **fields: Any) -> Any:
    body = {"messages": messages, "model": "tiny", **fields}
    return read_prompt(parse(msgspec.json.encode(body), PromptFields))


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_said_becomes_anthropics_blocks(at_once: bool) -> None:
    blocks = Blocks()
    events: list[dict[str, Any]] = []
    for deltas in [SAID] if at_once else [[delta] for delta in SAID]:
        events += blocks.add(deltas)
    events += blocks.finish()
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [start["index"] for start in starts] == [0, 1, 2, 3]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
    opened = msgspec.to_builtins([start["content_block"] for start in starts])
    assert [block["type"] for block in opened] == ["thinking", "text", "tool_use", "tool_use"]
    assert (opened[0]["thinking"], opened[1]["text"], opened[2]["input"]) == ("", "", {})
    thought, text, look, wait = msgspec.to_builtins(blocks.done)
    assert (thought["thinking"], text["text"]) == ("Hm.", "I look.")
    assert (look["id"], look["name"], look["input"]) == ("c0", "look", {"where": "up"})
    assert (wait["id"], wait["input"]) == ("c1", {})
    (signature,) = [event for event in events if event.get("delta", {}).get("type") == "signature_delta"]
    assert signature["delta"]["signature"] == thought["signature"] != ""


def test_the_input_of_a_call_cut_short_is_empty() -> None:
    blocks = Blocks()
    blocks.add(SAID[4:6])
    blocks.finish()
    assert msgspec.to_builtins(blocks.done)[0]["input"] == {}


def test_what_is_said_becomes_a_responses_items() -> None:
    output = Output()
    events = output.add(SAID) + output.finish(INCOMPLETE)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    thought, message, look, wait = msgspec.to_builtins(output.items)
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert message["content"][0]["text"] == "I look."
    assert (look["call_id"], json.loads(look["arguments"])) == ("c0", {"where": "up"})
    assert [item["status"] for item in (thought, message, look, wait)] == [COMPLETED] * 3 + [INCOMPLETE]
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == output.items[event["output_index"]].id


def test_an_answer_without_a_word_is_a_message_without_one() -> None:
    output = Output()
    output.finish(COMPLETED)
    assert msgspec.to_builtins(output.items)[0]["content"][0]["text"] == ""


def test_a_responses_output_is_read_back_as_one_message() -> None:
    output = Output()
    output.add(SAID)
    output.finish(COMPLETED)
    reader = ItemReader("Be kind.")
    given = [{"role": "developer", "content": "And brief."}, *input_items("hello")]
    given += msgspec.to_builtins(output.items)
    reader.read((f"input[{index}]", item) for index, item in enumerate(given))
    instructions, hello, answer = reader.messages
    assert instructions == {"role": "system", "content": "Be kind.\n\nAnd brief."}
    assert hello == {"role": "user", "content": "hello"}
    assert (answer["reasoning_content"], answer["content"]) == ("Hm.", "I look.")
    assert [call["function"]["name"] for call in answer["tool_calls"]] == ["look", "wait"]


def test_anthropics_messages_become_a_chat() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
    document = {"type": "document", "title": "A", "source": {"type": "text", "data": "b"}}
    made = prompt(
        [
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, image, document]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "blind"},
                {"type": "text", "text": "well?"},
            ]},
        ],
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}],
        thinking={"type": "disabled"},
    )  # fmt: skip
    system, user, call, result, last = made.chat.messages
    assert system == {"role": "system", "content": "Be\nkind."}
    assert [part.get("text") for part in user["content"]] == ["one", "two", None, "A\n\nb"]
    assert made.names == {(1, 2): "messages[1].content[1]"}
    assert (call["content"], call["tool_calls"][0]["function"]["name"]) == (None, "look")
    assert (result["role"], result["tool_call_id"]) == ("tool", "t")
    assert [part["text"] for part in result["content"]] == ["Error:", "blind"]
    assert last == {"role": "user", "content": "well?"}
    assert made.chat.template_kwargs == {"enable_thinking": False}
    assert made.chat.add_generation_prompt


def test_a_last_message_that_calls_a_tool_needs_its_result() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]}
    with pytest.raises(InvalidRequest, match="tool_result"):
        prompt([{"role": "user", "content": "look"}, call])


def response(name: str, metadata: dict[str, str] | None = None) -> Response:
    values: list[Any] = [name, 0, COMPLETED, "tiny", [], 1.0, 1.0, [], "auto", True, {}, {}, "disabled", True]
    return Response(*values, metadata=metadata or {})


def test_the_store_keeps_the_latest_within_its_limits() -> None:
    size = Kept.of(response("a"), [], None).size
    store = ResponseStore(StoreLimits(responses=3, bytes=100 * size))
    for name in "abc":
        store.put("me", Kept.of(response(name), [], None))
    store.get("me", "a")  # which makes it late
    store.put("me", Kept.of(response("d"), [], None))
    with pytest.raises(NotFound):
        store.get("me", "b")
    with pytest.raises(NotFound):
        store.get("you", "a")
    store.put("me", Kept.of(response("huge", {"x": "y" * 100 * size}), [], None))
    with pytest.raises(NotFound):
        store.get("me", "huge")
    store.put("me", Kept.of(response("big", {"x": "y" * 48 * size}), [], None))
    assert store.get("me", "big").response.id == "big"
    with pytest.raises(NotFound):
        store.get("me", "c")
    store.delete("me", "big")
    with pytest.raises(NotFound):
        store.delete("me", "big")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A model whose template opens a thought, which a random one hardly ever ends."""
    path = tmp_path_factory.mktemp("thinker")
    for file in Path(checkpoint()).iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((path / "tokenizer_config.json").read_text())
    opening = "{% if add_generation_prompt and enable_thinking is not false %}<think>\n{% endif %}"
    settings["chat_template"] += opening
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    with serving(model=str(path)) as served:
        yield served
        served.everything_is_returned()


def test_thinking_is_a_block_of_its_own_and_can_be_switched_off(thinker: Serving) -> None:
    given: Any = {"model": "tiny", "max_tokens": 30, "messages": [{"role": "user", "content": "hello"}]}
    given["extra_body"] = {"temperature": 0}
    with anthropic.Anthropic(base_url=thinker.url, api_key="none", max_retries=0) as client:
        (block,) = client.messages.create(**given).content
        assert (block.type, block.signature != "") == ("thinking", True)
        thinking: Any = {"type": "enabled", "budget_tokens": 1024}
        with client.messages.stream(**given, thinking=thinking) as stream:
            events = [event.thinking for event in stream if event.type == "thinking"]
            (streamed,) = stream.get_final_message().content
        assert "".join(events) == streamed.thinking == block.thinking
        assert streamed.signature == block.signature
        (off,) = client.messages.create(**given, thinking={"type": "disabled"}).content
        assert off.type == "text"


def test_a_responses_thought_is_an_item_with_its_tokens_counted(thinker: Serving) -> None:
    given: Any = {"model": "tiny", "input": "hello", "max_output_tokens": 30, "temperature": 0}
    with thinker.client() as client:
        answer = client.responses.create(**given)
        (item,) = answer.output
        assert (item.type, item.status) == ("reasoning", "incomplete")
        assert item.content is not None
        assert answer.usage is not None
        assert 25 < answer.usage.output_tokens_details.reasoning_tokens <= 30
        events = list(client.responses.create(**given, stream=True))
        pieces = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
        assert "".join(pieces) == item.content[0].text
        off = client.responses.create(**given, reasoning={"effort": "none"})
        assert off.output[0].type == "message"
        assert off.usage is not None
        assert off.usage.output_tokens_details.reasoning_tokens == 0


def test_the_oldest_turns_go_first_and_calls_go_with_their_results(thinker: Serving) -> None:
    items: list[Any] = [{"role": "user", "content": "x" * 2000}]
    for number in range(6):
        items.append({"type": "function_call", "call_id": f"c{number}", "name": "look", "arguments": "{}"})
        items.append({"type": "function_call_output", "call_id": f"c{number}", "output": "y" * 1000})
    with thinker.client() as client:
        answer = client.responses.create(model="tiny", input=items, truncation="auto", max_output_tokens=8)
    assert answer.usage is not None
    assert CONTEXT - 1300 < answer.usage.input_tokens <= CONTEXT - 8
