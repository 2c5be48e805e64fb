"""Ollama's errors, word for word, and the parts that make them."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from tests.api.serving import Serving, serving
from tests.api.test_ollama import HELLO, TOOL, lines, post
from tutti.api.ollama.answering import Answering
from tutti.api.ollama.duration import seconds
from tutti.api.ollama.options import Options
from tutti.api.openai.logprobs import LogprobEncoder
from tutti.errors import InvalidRequest
from tutti.events import Done, TextDelta
from tutti.gateway.limits import Limits
from tutti.hub.create import format_count
from tutti.models.parsers.hermes import HermesParser

CHAT = {"model": "tiny", "messages": HELLO}
GENERATE = {"model": "tiny", "prompt": "hello"}
NO_TEMPLATE = "the template is not valid: template:1:1: unclosed action"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("chat", b"", 400, "missing request body"),
        ("generate", b"", 400, "missing request body"),
        ("chat", {**CHAT, "model": "nobody"}, 404, "model 'nobody' not found"),
        ("generate", {**GENERATE, "model": "nobody:7b"}, 404, "model 'nobody:7b' not found"),
        ("show", {"model": "nobody"}, 404, "model 'nobody' not found"),
        ("show", {}, 400, "model is required"),
        ("chat", {"messages": HELLO}, 400, "model is required"),
        ("generate", {"prompt": "hello"}, 404, "model '' not found"),
        ("embed", {"input": "x"}, 404, "model '' not found"),
        ("embed", {"model": "no", "input": "x"}, 404, 'model "no" not found, try pulling it first'),
        ("embeddings", {"model": "no", "prompt": "x"}, 404, 'model "no" not found, try pulling it first'),
        ("embed", {"model": "tiny", "input": [1]}, 400, "invalid input type"),
        ("chat", {**CHAT, "think": True}, 400, '"tiny" does not support thinking'),
        ("chat", {**CHAT, "tools": [TOOL]}, 400, "tiny:latest does not support tools"),
        ("generate", {**GENERATE, "suffix": "x"}, 400, "tiny:latest does not support insert"),
        ("generate", {**GENERATE, "images": ["AAAA"]}, 400, '"tiny" does not support vision'),
        ("generate", {**GENERATE, "template": "{{ .Prompt"}, 400, NO_TEMPLATE),
        (
            "generate",
            {**GENERATE, "raw": True, "system": "x"},
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            "chat",
            {**CHAT, "think": "much"},
            400,
            'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ("chat", {**CHAT, "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ("generate", {**GENERATE, "top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
        (
            "chat",
            {**CHAT, "format": "xml"},
            400,
            'invalid format: "xml"; expected "json" or a valid JSON Schema object',
        ),
        ("chat", {**CHAT, "options": {"top_k": "x"}}, 400, 'option "top_k" must be of type integer'),
        ("chat", {**CHAT, "options": {"top_p": True}}, 400, 'option "top_p" must be of type float32'),
        ("chat", {**CHAT, "options": {"stop": "x"}}, 400, 'option "stop" must be of type array'),
        ("chat", {**CHAT, "options": {"stop": [1]}}, 400, 'option "stop" must be of an array of strings'),
        ("chat", {**CHAT, "options": {"use_mmap": 1}}, 400, 'option "use_mmap" must be of type boolean'),
        ("chat", {**CHAT, "keep_alive": "10"}, 400, 'time: missing unit in duration "10"'),
        ("chat", {**CHAT, "keep_alive": "soon"}, 400, 'time: invalid duration "soon"'),
        ("generate", {**GENERATE, "keep_alive": "5x"}, 400, 'time: unknown unit "x" in duration "5x"'),
    ],
)
def test_an_error_has_ollamas_words(server: Serving, path: str, body: Any, status: int, words: str) -> None:
    response = post(server, f"/api/{path}", body)
    assert response.json() == {"error": words}
    assert response.status_code == status


def test_json_that_is_none_and_paths_that_are_none(server: Serving) -> None:
    broken = post(server, "/api/chat", b'{"model": ')
    assert broken.status_code == 400
    assert isinstance(broken.json()["error"], str)
    wrong = post(server, "/api/chat", {**CHAT, "stream": "yes"})
    assert "stream" in wrong.json()["error"]
    absent = httpx.get(f"{server.url}/api/nothing")
    assert absent.status_code == 404
    assert isinstance(absent.json()["error"], str)
    assert httpx.get(f"{server.url}/api/chat").status_code == 405


def test_somebody_is_there(server: Serving) -> None:
    assert httpx.get(server.url).text == "Ollama is running"
    assert httpx.head(server.url).status_code == 200
    version = httpx.get(f"{server.url}/api/version")
    assert version.json() == httpx.get(f"{server.url}/version").json()
    assert httpx.head(f"{server.url}/api/version").status_code == 200


def test_unknown_options_and_fields_are_passed_over(server: Serving) -> None:
    body = {**CHAT, "stream": False, "options": {"num_predict": 2, "mirostat": 1, "seed": None}, "more": 1}
    assert post(server, "/api/chat", body).json()["eval_count"] == 2


def test_a_key_is_asked_for_where_there_are_any() -> None:
    with serving(keys=("secret",), limits=Limits(max_num_seqs=1, max_queue=0)) as served:
        assert post(served, "/api/chat", CHAT).status_code == 401
        assert isinstance(httpx.get(f"{served.url}/api/tags").json()["error"], str)
        assert httpx.get(served.url).status_code == 200
        headers = {"Authorization": "Bearer secret"}
        body = {**CHAT, "options": {"num_predict": 1}}
        answer = httpx.post(f"{served.url}/api/chat", json=body, headers=headers, timeout=60)
        assert lines(answer)[-1]["eval_count"] == 1
        long = {**CHAT, "options": {"num_predict": -1, "temperature": 0}}
        with httpx.stream(
            "POST", f"{served.url}/api/chat", json=long, headers=headers, timeout=60
        ) as running:
            found = running.iter_lines()
            assert next(found)
            busy = httpx.post(f"{served.url}/api/chat", json=body, headers=headers)
            assert busy.status_code == 503
            assert busy.json()["error"] == (
                "server busy, please try again.  maximum pending requests exceeded"
            )
            assert int(busy.headers["retry-after"]) >= 1
        served.everything_is_returned()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (2.5, 2.5),
        (-1, math.inf),
        ("-1m", math.inf),
        ("0", 0.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("3us", 3e-6),
        (".5m", 30.0),
    ],
)
def test_durations_are_gos(value: object, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    "value", ["", "-", "x", "1", ".s", "1..s", "5 s", [], True, "9" * 30 + "h", "1h" * 200]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        seconds(value)


def sampling(recommended: dict[str, Any], **options: Any) -> Any:
    return Options.of(options).sampling(recommended, logprobs=None, form=None, skip_special_tokens=True)


def test_what_is_said_counts_then_the_checkpoint_then_ollama() -> None:
    neutral = sampling({})
    assert (neutral.temperature, neutral.top_k, neutral.top_p, neutral.max_tokens) == (0.8, 40, 0.9, None)
    assert (neutral.repetition_penalty, neutral.min_p, neutral.seed) == (1.0, 0.0, None)
    assert (neutral.penalty_window, sampling({}, repeat_last_n=8).penalty_window) == (64, 8)
    assert sampling({}, repeat_last_n=-1).penalty_window > 1_000_000
    learned = sampling({"temperature": 0.6, "top_k": 20, "max_tokens": 5})
    assert (learned.temperature, learned.top_k, learned.top_p, learned.max_tokens) == (0.6, 20, 0.9, None)
    said = sampling({"temperature": 0.6}, temperature=1, top_k=-1, top_p=2.0, num_predict=3.0, seed=5)
    assert (said.temperature, said.top_k, said.top_p, said.max_tokens, said.seed) == (1.0, 0, 1.0, 3, 5)


@pytest.mark.parametrize(
    ("count", "shown"), [(999, "999"), (7000, "7K"), (494_032_768, "494.03M"), (8_190_735_360, "8.2B")]
)
def test_numbers_of_parameters_are_short(count: int, shown: str) -> None:
    assert format_count(count) == shown


async def test_a_call_that_is_cut_short_is_content(server: Serving) -> None:
    tokenizer = server.gateway.served[0].backend.processor.tokenizer
    answering = Answering(HermesParser(), LogprobEncoder(tokenizer, 0), 0, show_thinking=True)

    async def events() -> Any:
        whole = '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>\n'
        yield TextDelta("r", (1,), whole + '<tool_call>\n{"name": "b", "arguments": {"y": "do')
        yield Done("r", "length")

    pieces = [piece async for piece in answering.pieces(events())]
    (call,) = [call for piece in pieces for call in piece.calls]
    assert (call.function.index, call.function.name, call.function.arguments) == (0, "a", {"x": 1})
    assert 'b{"y": "do' in "".join(piece.content for piece in pieces)
    assert answering.reason == "length"
