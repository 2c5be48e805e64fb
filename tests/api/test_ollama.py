"""Ollama's API by its official client, against real engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.api.scripted import THOUGHT, make_scripted
from tests.api.serving import CONTEXT, Serving, serving, until
from tutti.hub.resolve import resolve_model

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 12}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}, "open": {"type": "boolean"}},
    "required": ["colour", "open"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks somewhere.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    },
}
SHAPES = Path(__file__).parents[2] / "docs" / "demo" / "shapes.png"


@pytest.fixture
def tiny(server: Serving) -> Iterator[ollama.Client]:
    """Ollama's client of the shared server."""
    with ollama.Client(server.url, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def thoughtful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose model thinks and calls a tool."""
    model = make_scripted(tmp_path_factory.mktemp("scripted") / "model")
    with serving(model=str(model), served_model_name=("org/Thinker",)) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def thinker(thoughtful: Serving) -> Iterator[ollama.Client]:
    """Ollama's client of it."""
    with ollama.Client(thoughtful.url, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def pico() -> Iterator[Serving]:
    """A server of the model that comes with Tutti, which sees and hears."""
    with serving(model=str(resolve_model("pico")), served_model_name=("pico",)) as served:
        yield served
        served.everything_is_returned()


def said_by_openai(client: openai.OpenAI, **fields: Any) -> str:
    answer = client.chat.completions.create(
        **{"model": "tiny", "messages": HELLO, "max_tokens": 12, "temperature": 0, **fields}
    )
    return answer.choices[0].message.content or ""


def post(server: Serving, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{server.url}{path}", content=content, timeout=60)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_greedy_chat_is_openais(tiny: ollama.Client, client: openai.OpenAI) -> None:
    answer = tiny.chat("tiny", HELLO, options=GREEDY)
    assert answer.message.role == "assistant"
    assert answer.message.content == said_by_openai(client)
    assert answer.done
    assert answer.done_reason == "length"
    assert answer.model == "tiny"


def test_the_account_is_measured(tiny: ollama.Client) -> None:
    answer = tiny.chat("tiny", HELLO, options=GREEDY)
    assert answer.eval_count == 12
    assert answer.prompt_eval_count == len("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n") - 31
    parts = (answer.load_duration, answer.prompt_eval_duration, answer.eval_duration)
    assert all(part is not None and part > 0 for part in parts)
    assert answer.total_duration is not None
    assert sum(part or 0 for part in parts) < answer.total_duration < 60_000_000_000
    assert answer.created_at is not None
    moment = datetime.fromisoformat(answer.created_at)
    assert abs(datetime.now(moment.tzinfo) - moment).total_seconds() < 60


def test_a_stream_joins_to_the_same_answer(tiny: ollama.Client) -> None:
    whole = tiny.chat("tiny", HELLO, options=GREEDY)
    *body, last = list(tiny.chat("tiny", HELLO, options=GREEDY, stream=True))
    assert len(body) > 1
    assert "".join(part.message.content or "" for part in body) == whole.message.content
    assert not any(part.done for part in body)
    assert last.done
    assert last.message.content == ""
    assert (last.eval_count, last.prompt_eval_count) == (whole.eval_count, whole.prompt_eval_count)


def test_lines_are_ollamas_to_the_letter(server: Serving) -> None:
    response = post(server, "/api/chat", {"model": "tiny", "messages": HELLO, "options": GREEDY})
    *body, last = lines(response)
    assert all(set(line) == {"model", "created_at", "message", "done"} for line in body)
    assert all(set(line["message"]) == {"role", "content"} for line in body)
    account = {"total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration"}
    account |= {"eval_count", "eval_duration", "done_reason"}
    assert set(last) == {"model", "created_at", "message", "done"} | account
    response = post(server, "/api/generate", {"model": "tiny", "prompt": "hello", "options": GREEDY})
    *body, last = lines(response)
    assert all(set(line) == {"model", "created_at", "response", "done"} for line in body)
    assert set(last) == {"model", "created_at", "response", "done", "context"} | account


def test_generate_takes_the_template_and_its_context_continues_it(
    tiny: ollama.Client, client: openai.OpenAI
) -> None:
    answer = tiny.generate("tiny", "hello", options=GREEDY)
    assert answer.response == said_by_openai(client)
    assert answer.context is not None
    assert len(answer.context) == (answer.prompt_eval_count or 0) + 12
    further = tiny.generate("tiny", "and?", context=list(answer.context), options=GREEDY)
    assert further.context is not None
    assert list(further.context[: len(answer.context)]) == list(answer.context)
    asked = len("<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n") - 31
    assert further.prompt_eval_count == len(answer.context) + asked
    told = tiny.generate("tiny", "hello", system="Be kind.", options=GREEDY)
    system: list[Any] = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert told.response == said_by_openai(client, messages=system)


def test_a_raw_prompt_stands_as_it_is(tiny: ollama.Client, client: openai.OpenAI) -> None:
    answer = tiny.generate("tiny", "once upon", raw=True, options=GREEDY)
    theirs = client.completions.create(model="tiny", prompt="once upon", max_tokens=12, temperature=0)
    assert answer.response == theirs.choices[0].text
    assert answer.context is None


def test_an_answer_takes_the_form_that_is_asked_for(tiny: ollama.Client) -> None:
    options = {"num_predict": 300, "seed": 1}
    made = json.loads(tiny.chat("tiny", HELLO, format=SCHEMA, options=options).message.content or "")
    assert set(made) == {"colour", "open"}
    made = json.loads(tiny.generate("tiny", "hello", format=SCHEMA, options=options).response or "")
    assert made["colour"] in ("red", "blue")
    begun = tiny.generate("tiny", "hello", format="json", options=GREEDY).response
    assert begun is not None
    assert begun.lstrip().startswith("{")


def test_options_are_heard(tiny: ollama.Client) -> None:
    text = tiny.chat("tiny", HELLO, options=GREEDY).message.content or ""
    stopped = tiny.chat("tiny", HELLO, options={**GREEDY, "stop": [text[4:6], "never"]})
    assert stopped.message.content == text[: text.index(text[4:6])]
    assert stopped.done_reason == "stop"
    one, other = (tiny.chat("tiny", HELLO, options={"seed": 7, "num_predict": 12}) for _ in range(2))
    assert one.message.content == other.message.content
    assert tiny.chat("tiny", HELLO, options={**GREEDY, "top_p": 0, "temperature": 1}).message.content == text
    flat = tiny.chat("tiny", HELLO, options={**GREEDY, "repeat_penalty": 5.0, "repeat_last_n": 0})
    assert flat.message.content == text
    assert tiny.chat("tiny", HELLO, options={**GREEDY, "repeat_penalty": 5.0}).message.content != text


def test_an_answer_that_does_not_shift_ends_where_the_context_does(server: Serving) -> None:
    body = {"model": "tiny", "messages": HELLO, "shift": False, "stream": False}
    small = post(
        server, "/api/chat", {**body, "options": {"num_ctx": 64, "num_predict": 500, "temperature": 0}}
    )
    assert small.json()["prompt_eval_count"] + small.json()["eval_count"] == 64
    assert small.json()["done_reason"] == "length"


def test_an_answer_shifts_its_context_unless_told_not_to(tiny: ollama.Client) -> None:
    wanted = 120
    options = {"num_ctx": 64, "num_predict": wanted, "temperature": 0}
    answer = tiny.generate("tiny", "hello there", raw=True, options=options, logprobs=True)
    assert answer.done_reason == "length"
    assert answer.eval_count == wanted
    assert answer.prompt_eval_count == len("hello there")
    assert len(answer.logprobs or ()) == wanted
    pieces = list(tiny.generate("tiny", "hello there", raw=True, options=options, stream=True))
    assert "".join(piece.response for piece in pieces) == answer.response


def test_a_prompt_that_does_not_fit_loses_its_middle(server: Serving, tiny: ollama.Client) -> None:
    text = "".join(chr(97 + number % 26) for number in range(200))
    options = {"num_ctx": 64, "num_keep": 6, "num_predict": 4, "temperature": 0}
    cut = tiny.generate("tiny", text, raw=True, options=options)
    assert cut.prompt_eval_count == 64 - (64 - 6) // 2
    assert cut.response == tiny.generate("tiny", text[:6] + text[-29:], raw=True, options=options).response
    for fields in ({"truncate": False}, {"shift": False}):
        body = {"model": "tiny", "prompt": text, "raw": True, "options": options, **fields}
        refused = post(server, "/api/generate", body)
        assert refused.status_code == 400
        assert "64 tokens" in refused.json()["error"]
    whole = tiny.chat("tiny", [{"role": "user", "content": text}], options=options)
    assert whole.prompt_eval_count == 35


def test_the_oldest_turns_go_when_a_conversation_does_not_fit(server: Serving, tiny: ollama.Client) -> None:
    turns: list[Any] = [{"role": "system", "content": "Be kind."}]
    for number in range(30):
        turns += [
            {"role": "user", "content": f"question {number} " + "x" * 200},
            {"role": "assistant", "content": "answer"},
        ]
    turns.append({"role": "user", "content": "the last"})
    answer = tiny.chat("tiny", turns, options=GREEDY)
    assert CONTEXT - 300 < (answer.prompt_eval_count or 0) <= CONTEXT - 12
    kept = tiny.chat("tiny", [turns[0], *turns[-33:]], options=GREEDY)
    assert kept.prompt_eval_count == answer.prompt_eval_count
    assert kept.message.content == answer.message.content
    roomy = tiny.chat("tiny", turns, options={"temperature": 0, "stop": ["\ufffd"]})
    assert CONTEXT // 2 < (roomy.prompt_eval_count or 0) <= CONTEXT * 3 // 4
    body = {"model": "tiny", "messages": turns, "truncate": False, "stream": False}
    refused = post(server, "/api/chat", body)
    assert refused.status_code == 400
    assert str(CONTEXT) in refused.json()["error"].replace(",", "")
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 5000}], "shift": False}
    assert post(server, "/api/chat", body).status_code == 400


def test_logprobs_come_with_the_tokens(tiny: ollama.Client) -> None:
    answer = tiny.chat("tiny", HELLO, options=GREEDY, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.eval_count
    for entry in answer.logprobs:
        assert entry.logprob <= 0
        assert entry.top_logprobs is not None
        assert entry.top_logprobs[0].token == entry.token
    parts = list(tiny.generate("tiny", "hello", options=GREEDY, logprobs=True, stream=True))
    streamed = [entry.token for part in parts for entry in part.logprobs or ()]
    assert streamed == [entry.token for entry in answer.logprobs]


def test_without_a_prompt_a_model_is_loaded_or_unloaded(tiny: ollama.Client, server: Serving) -> None:
    loaded = tiny.generate("tiny")
    assert (loaded.response, loaded.done, loaded.done_reason) == ("", True, "load")
    assert tiny.generate("tiny", keep_alive=0).done_reason == "unload"
    assert tiny.chat("tiny", keep_alive="0s").done_reason == "unload"
    chat = post(server, "/api/chat", {"model": "tiny", "messages": []}).json()
    assert chat.pop("created_at").endswith("Z")
    assert chat == {
        "model": "tiny",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "load",
    }


def test_thoughts_and_calls_come_apart(thinker: ollama.Client) -> None:
    answer = thinker.chat("org/Thinker", HELLO, tools=[TOOL], options={"temperature": 0})
    assert answer.message.thinking == THOUGHT
    assert answer.message.content == ""
    assert answer.done_reason == "stop"
    (call,) = answer.message.tool_calls or ()
    assert call.function.name == "look"
    assert call.function.arguments == {"where": "up", "times": 2}
    parts = list(thinker.chat("org/Thinker", HELLO, tools=[TOOL], options={"temperature": 0}, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == THOUGHT
    assert [len(part.message.tool_calls or ()) for part in parts].count(1) == 1
    assert not parts[-1].message.tool_calls
    further: list[Any] = [
        *HELLO,
        answer.message,
        {"role": "tool", "tool_name": "look", "content": "a bird"},
    ]
    assert thinker.chat("org/Thinker", further, tools=[TOOL], options={"temperature": 0}).done


def test_thinking_is_switched(thinker: ollama.Client) -> None:
    options = {"temperature": 0}
    silent = thinker.chat("org/Thinker", HELLO, think=False, tools=[TOOL], options=options)
    assert silent.message.thinking is None
    assert silent.message.tool_calls
    high = thinker.generate("org/Thinker", "hello", think="high", options=options)
    assert high.thinking == THOUGHT
    assert "<tool_call>" in (high.response or "")  # nobody offered tools
    made = thinker.chat(
        "org/Thinker", HELLO, think=True, format=SCHEMA, options={"seed": 1, "num_predict": 300}
    )
    assert made.message.thinking == THOUGHT
    assert set(json.loads(made.message.content or "")) == {"colour", "open"}


def test_pictures_are_seen_as_through_openais_door(pico: Serving) -> None:
    import base64

    question = "What is in the picture?"
    url = f"data:image/png;base64,{base64.b64encode(SHAPES.read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    with pico.client() as client, ollama.Client(pico.url, timeout=60) as mine:
        theirs = said_by_openai(
            client, model="pico", messages=[{"role": "user", "content": content}], max_tokens=64
        )
        messages = [{"role": "user", "content": question, "images": [SHAPES.read_bytes()]}]
        assert mine.chat("pico", messages, options={"temperature": 0}).message.content == theirs
        answer = mine.generate("pico", question, images=[SHAPES], options={"temperature": 0})
        assert answer.response == theirs
        assert answer.context is None
        assert "star" in theirs
        assert set(mine.show("pico").capabilities or ()) == {"completion", "vision", "audio", "image"}


def test_sound_is_heard_as_an_image_of_another_kind(pico: Serving) -> None:
    recording = SHAPES.with_name("question.flac")
    with ollama.Client(pico.url, timeout=60) as mine:
        messages = [{"role": "user", "content": "", "images": [recording.read_bytes()]}]
        assert "33" in (mine.chat("pico", messages).message.content or "")


def test_what_is_served_is_listed_shown_and_running(tiny: ollama.Client, thinker: ollama.Client) -> None:
    listed = {model.model: model for model in tiny.list().models}
    assert set(listed) == {"tiny:latest", "alias:latest"}
    one = listed["tiny:latest"]
    assert one.details is not None
    assert (one.details.format, one.details.family) == ("safetensors", "qwen3")
    assert one.details.quantization_level == "F32"
    assert one.size is not None
    assert one.size > 100_000
    assert one.digest is not None
    assert len(one.digest) == 64
    (running, _) = tiny.ps().models
    assert running.context_length == CONTEXT
    assert running.digest == one.digest
    assert running.size_vram == 0
    assert running.expires_at is not None
    assert running.expires_at.year > 2300
    shown = thinker.show("ORG/thinker:latest")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "qwen3"
    assert shown.modelinfo["qwen3.context_length"] == 1024
    assert "<think>" in (shown.template or "")
    assert tiny.show("tiny").capabilities == ["completion"]
    assert tiny.chat("Tiny:latest", HELLO, options=GREEDY).model == "Tiny:latest"


def test_a_client_that_leaves_cancels(server: Serving) -> None:
    body = {"model": "tiny", "messages": HELLO, "options": {"num_predict": -1, "temperature": 0}}
    with httpx.stream("POST", f"{server.url}/api/chat", json=body, timeout=60) as response:
        found = response.iter_lines()
        assert next(found)
        until(lambda: server.stats().running == 1)
    server.everything_is_returned()
