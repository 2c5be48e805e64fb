"""Models, tokens, health, version, metrics, keys."""

from __future__ import annotations

import re
import subprocess
import sys

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

import tutti
from tests.api.serving import CONTEXT, Serving, serving


def test_models_are_listed_with_their_context(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["tiny", "alias"]
    assert models[0].object == "model"
    assert models[0].model_extra is not None
    assert models[0].model_extra["max_model_len"] == CONTEXT
    assert client.models.retrieve("alias").id == "alias"
    with pytest.raises(openai.NotFoundError, match=r"'huge' is not served here\. Served: tiny, alias"):
        client.models.retrieve("huge")


def test_text_becomes_tokens_and_text_again(server: Serving) -> None:
    answer = httpx.post(f"{server.url}/tokenize", json={"prompt": "héllo", "return_token_strs": True}).json()
    assert answer["tokens"] == list("héllo".encode())
    assert answer["count"] == 6
    assert answer["max_model_len"] == CONTEXT
    assert answer["token_strs"][0] == "h"
    text = httpx.post(f"{server.url}/detokenize", json={"tokens": answer["tokens"]}).json()
    assert text == {"prompt": "héllo"}


def test_a_conversation_is_tokenized_with_its_template(server: Serving) -> None:
    messages = [{"role": "user", "content": "hi"}]
    ids = httpx.post(f"{server.url}/tokenize", json={"messages": messages}).json()["tokens"]
    text = httpx.post(f"{server.url}/detokenize", json={"tokens": ids}).json()["prompt"]
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_tokenizing_takes_any_length_and_refuses_nonsense(server: Serving) -> None:
    count = httpx.post(f"{server.url}/tokenize", json={"prompt": "x" * 50_000}).json()["count"]
    assert count == 50_000
    for path, body in (
        ("tokenize", {}),
        ("detokenize", {}),
        ("detokenize", {"tokens": [-1]}),
        ("detokenize", {"tokens": "x"}),
        ("tokenize", {"prompt": 5}),
    ):
        assert httpx.post(f"{server.url}/{path}", json=body).status_code == 400


def test_health_and_version(server: Serving) -> None:
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert httpx.get(f"{server.url}/ping").status_code == 200
    assert httpx.get(f"{server.url}/version").json() == {"version": tutti.__version__}


def _metrics(server: Serving) -> dict[str, float]:
    text = httpx.get(f"{server.url}/metrics").text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
        and sample.labels.get("finished_reason", "length") == "length"
    }


def test_metrics_count_under_our_names_and_vllms(server: Serving, client: openai.OpenAI) -> None:
    before = _metrics(server)
    client.completions.create(model="alias", prompt="count me", max_tokens=5, extra_body={"ignore_eos": True})
    after = _metrics(server)
    grown = {name: after[name] - before[name] for name in after}
    for name, value in (
        ("prompt_tokens_total", 8),
        ("generation_tokens_total", 5),
        ("request_prompt_tokens_sum", 8),
        ("request_generation_tokens_sum", 5),
    ):
        assert grown[f"vllm:{name}"] == grown[f"tutti_{name}"] == value
    assert grown["vllm:time_to_first_token_seconds_count"] == 1
    assert grown["vllm:inter_token_latency_seconds_count"] == 4
    assert grown["vllm:e2e_request_latency_seconds_count"] == 1
    assert grown["vllm:request_success_total"] == 1
    assert grown["vllm:request_decode_time_seconds_sum"] > 0
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    assert after["tutti_engine_up"] == 1
    assert "vllm:kv_cache_usage_perc" in after
    assert "vllm:prefix_cache_queries_total" in after
    assert "vllm:num_preemptions_total" in after
    text = httpx.get(f"{server.url}/metrics").text
    assert re.search(r'vllm:num_requests_running\{model_name="tiny"\} 0', text)


def test_the_prefix_cache_can_be_emptied(server: Serving, client: openai.OpenAI) -> None:
    prompt = "forget all about this, please. " * 10
    client.completions.create(model="tiny", prompt=prompt, max_tokens=1)
    assert httpx.post(f"{server.url}/reset_prefix_cache").status_code == 200
    usage = client.completions.create(model="tiny", prompt=prompt, max_tokens=1).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_a_server_with_keys_opens_to_those_who_have_one() -> None:
    with serving(keys=("first", "second")) as server:
        for key in ("first", "second"):
            with server.client(api_key=key) as client:
                assert client.models.list().data
                assert client.completions.create(model="tiny", prompt="a", max_tokens=1).choices
        with server.client(api_key="third") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
            assert caught.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}])
        for path in ("health", "ping", "version", "metrics", ""):
            assert httpx.get(f"{server.url}/{path}").status_code == 200
        assert httpx.post(f"{server.url}/reset_prefix_cache").status_code == 401


def test_the_front_process_imports_no_torch() -> None:
    modules = (
        "tutti.api.app, tutti.api.server, tutti.gateway.local, tutti.engine.process, tutti.models.processor"
    )
    code = (
        f"import sys, {modules}; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
