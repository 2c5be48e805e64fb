"""Bad input: each gets a clear error of the right status, the others go on, every block is returned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.serving import CONTEXT, Serving

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def beside(server: Serving) -> Iterator[None]:
    """Another client, who streams all the while and must not notice anything."""
    with server.client() as client:
        stream = client.completions.create(
            model="tiny", prompt="all is well", max_tokens=64, stream=True, extra_body={"ignore_eos": True}
        )
        first = next(stream)
        yield
        chunks = [first, *stream]
        assert chunks[-1].choices[0].finish_reason == "length"
    server.everything_is_returned()


def post(server: Serving, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{path}", json=body, timeout=60)


def refused(response: httpx.Response, status: int, code: str, param: str | None, *words: str) -> None:
    """The error is complete, and says what it should."""
    error = response.json()["error"]
    assert response.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"messages": ', b"hello"])
def test_malformed_json(server: Serving, beside: None, body: bytes) -> None:
    for path in ("chat/completions", "completions"):
        response = httpx.post(f"{server.url}/v1/{path}", content=body)
        refused(response, 400, "invalid_request", None, "not valid JSON")


def test_an_unknown_model(server: Serving, beside: None) -> None:
    for path, body in (("chat/completions", {"messages": HELLO}), ("completions", {"prompt": "a"})):
        response = post(server, path, model="gigantic", **body)
        refused(response, 404, "model_not_found", "model", "'gigantic'", "tiny")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_tokens": -1}, "max_tokens", "at least 1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"temperature": -0.5}, "temperature", "0 or more"),
        ({"top_p": 0}, "top_p", "(0, 1]"),
        ({"n": 0}, "n", "at least 1"),
        ({"n": 600}, "n", "at most 512"),
        ({"n": 10**12}, "n", "at most 1024"),
        ({"stop": [""]}, "stop", "empty"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens", "must not exceed"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "99999"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "not empty"),
        ({"allowed_token_ids": [-5]}, "allowed_token_ids", "-5"),
        ({"seed": 2**70}, "seed", "64-bit"),
        ({"frequency_penalty": 3}, "frequency_penalty", "[-2, 2]"),
    ],
)
def test_sampling_parameters_out_of_range(
    server: Serving, beside: None, fields: dict[str, Any], param: str, words: str
) -> None:
    for stream in (False, True):
        response = post(
            server, "chat/completions", messages=HELLO, stream=stream, **{"max_tokens": 5, **fields}
        )
        refused(response, 400, "invalid_request", param, words)


def test_huge_max_tokens_states_the_numbers(server: Serving, beside: None) -> None:
    for huge in (CONTEXT, 10**9, 10**30):
        response = post(server, "completions", prompt="abcde", max_tokens=huge)
        refused(response, 400, "context_length_exceeded", "max_tokens", str(CONTEXT), str(huge), " 5 ")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_states_both_numbers(server: Serving, beside: None, stream: bool) -> None:
    response = post(server, "completions", prompt=[97] * 5000, stream=stream, max_tokens=1)
    refused(response, 400, "context_length_exceeded", "prompt", "5000", str(CONTEXT))
    long = [{"role": "user", "content": "x" * 5000}]
    response = post(server, "chat/completions", messages=long, stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert f"{CONTEXT:,}" in error["message"] or str(CONTEXT) in error["message"]
    assert "5,0" in error["message"] or "50" in error["message"]


def test_too_many_prompts(server: Serving, beside: None) -> None:
    response = post(server, "completions", prompt=["a"] * 20_000)
    refused(response, 400, "invalid_request", "prompt", "16384", "20000")


def test_token_ids_outside_the_vocabulary(server: Serving, beside: None) -> None:
    for prompt in ([5, -1], [10**6], [2**40]):
        response = post(server, "completions", prompt=prompt)
        refused(response, 400, "invalid_request", "prompt", "vocabulary")


@pytest.mark.parametrize(
    "form",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "nothing"}},
            }
        },
        {"structured_outputs": {"json": "{not json"}},
        {"structured_outputs": {"regex": "(unclosed"}},
        {"structured_outputs": {"grammar": "root ::= ((("}},
        {"guided_regex": "[z-a]"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_invalid_schema_or_expression(
    server: Serving, beside: None, form: dict[str, Any], stream: bool
) -> None:
    response = post(server, "chat/completions", messages=HELLO, max_tokens=5, stream=stream, **form)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["code"] == "invalid_grammar"
    assert len(error["message"]) > 10


def test_a_template_that_breaks(server: Serving, beside: None) -> None:
    for template in (
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ raise_exception('no such turn') }}",
        "{{ ''.__class__ }}",
    ):
        response = post(server, "chat/completions", messages=HELLO, chat_template=template)
        assert response.status_code == 400, response.text


def test_messages_of_another_form(server: Serving, beside: None) -> None:
    for messages in ([{}], [{"role": 5, "content": "x"}], [{"role": "user", "content": 5}], [["user", "x"]]):
        response = post(server, "chat/completions", messages=messages)
        error = response.json()["error"]
        assert response.status_code == 400, error
        assert error["param"].startswith("messages[0]")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_of_10_megabytes(server: Serving, beside: None, stream: bool) -> None:
    text = "All work and no play makes a dull server. " * 250_000
    for path, body in (
        ("completions", {"prompt": text}),
        ("chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ):
        response = post(server, path, stream=stream, **body)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
        assert f"{CONTEXT:,}" in error["message"]


def test_a_body_beyond_the_limit(server: Serving, beside: None) -> None:
    response = httpx.post(f"{server.url}/v1/completions", content=b" " * 65_000_000, timeout=60)
    refused(response, 413, "payload_too_large", None, "64 MB")


def test_wrong_paths_and_methods(server: Serving, beside: None) -> None:
    refused(httpx.get(f"{server.url}/v1/nothing"), 404, "not_found", None)
    refused(httpx.get(f"{server.url}/v1/chat/completions"), 405, "method_not_allowed", None)
