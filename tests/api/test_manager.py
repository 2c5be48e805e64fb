"""One server for many models, by the official clients: loaded on demand, kept for a while, unloaded to make room."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest

from tests.api.serving import Serving, managing, until
from tests.api.stocked import CONTEXT, stock
from tutti.gateway.catalog import Catalog
from tutti.gateway.manager import Policy

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
SHORT: dict[str, Any] = {"temperature": 0, "num_predict": 4}
ROOMY: dict[str, Any] = {"memory": 4_000_000_000, "max_num_seqs": 4}
NARROW: dict[str, Any] = {"memory": 800_000_000, "max_num_seqs": 4}  # room for one model at a time


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The models that every server here can load."""
    return Catalog(stock(tmp_path_factory.mktemp("stock")))


@pytest.fixture(scope="module")
def roomy(catalog: Catalog) -> Iterator[Serving]:
    """A server with room for all of them."""
    with managing(catalog, **ROOMY) as served:
        yield served


@pytest.fixture(scope="module")
def narrow(catalog: Catalog) -> Iterator[Serving]:
    """A server with room for one."""
    with managing(catalog, **NARROW) as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_is_loaded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shared servers begin every test empty, and hold nothing at its end."""
    yield
    for name in ("roomy", "narrow"):
        if name in request.fixturenames:
            served = request.getfixturevalue(name)
            client = ollama.Client(served.url, timeout=60)
            for model in loaded(served):
                client.generate(model, keep_alive=0)
            until(lambda served=served: not loaded(served))  # type: ignore[misc]


def loaded(served: Serving) -> list[str]:
    """The names of the models in memory."""
    return [str(model.model) for model in ollama.Client(served.url, timeout=60).ps().models]


def loads(served: Serving, name: str) -> int:
    """How many times a model was loaded."""
    return sum(one.metrics.loads for one in served.gateway.accounts if one.name == name)


def ask(served: Serving, model: str, **more: Any) -> ollama.ChatResponse:
    """A short answer."""
    options = SHORT | more.pop("options", {})
    return ollama.Client(served.url, timeout=60).chat(model, HELLO, options=options, **more)


class Answer:
    """An answer that goes on until it is left."""

    def __init__(self, served: Serving, model: str) -> None:
        self.client = ollama.Client(served.url, timeout=60)
        self.pieces = iter(
            self.client.chat(model, HELLO, stream=True, options={"temperature": 0, "num_predict": -1})
        )
        next(self.pieces)

    def leave(self) -> None:
        """Hang up."""
        self.pieces.close()  # type: ignore[attr-defined]


def test_models_are_loaded_when_they_are_asked_for_by_every_api(roomy: Serving) -> None:
    assert loaded(roomy) == []
    first = ask(roomy, "small")
    assert first.message.content
    assert first.load_duration is not None
    assert first.load_duration > 1_000_000  # nanoseconds
    again = ask(roomy, "small")
    assert again.message.content == first.message.content
    assert again.load_duration is not None
    assert again.load_duration < 1_000_000
    with roomy.client() as client:
        answer = client.chat.completions.create(model="packed", messages=HELLO, max_tokens=4)
        assert answer.choices[0].message.content is not None
        answer = client.responses.create(model="packed:latest", input="hello", max_output_tokens=4)
        assert answer.usage is not None
    told = anthropic.Anthropic(base_url=roomy.url, api_key="none").messages.create(
        model="other", max_tokens=4, messages=HELLO
    )
    assert told.usage.output_tokens > 0
    assert sorted(loaded(roomy)) == ["other:latest", "packed:latest", "small:latest"]


@pytest.mark.parametrize("name", ["small", "Small", "small:latest", "library/SMALL:Latest"])
def test_one_name_finds_one_model_in_every_dialect(roomy: Serving, name: str) -> None:
    before = loads(roomy, "small:latest")
    ask(roomy, name)
    with roomy.client() as client:
        client.completions.create(model=name, prompt="a", max_tokens=1)
        assert client.models.retrieve(name).id == "small:latest"
    assert ollama.Client(roomy.url).show(name).details is not None
    assert loaded(roomy) == ["small:latest"]
    assert loads(roomy, "small:latest") == before + 1


def test_all_that_can_be_served_is_listed_without_loading_it(roomy: Serving) -> None:
    tags = {str(model.model): model for model in ollama.Client(roomy.url).list().models}
    assert set(tags) == {"pico:latest", "small:latest", "packed:latest", "other:latest", "broken:latest"}
    details = tags["packed:latest"].details
    assert details is not None
    assert (details.format, details.family, details.quantization_level) == ("gguf", "qwen3", "Q8_0")
    details = tags["small:latest"].details
    assert details is not None
    assert (details.format, details.family, details.quantization_level) == ("safetensors", "qwen3", "F32")
    with roomy.client() as client:
        cards = {model.id: model.model_dump() for model in client.models.list()}
    assert cards["packed:latest"]["max_model_len"] == CONTEXT
    assert cards["small:latest"]["max_model_len"] == CONTEXT
    assert "pico" in cards
    assert loaded(roomy) == []


def test_a_stored_model_is_shown_without_loading_it(roomy: Serving) -> None:
    client = ollama.Client(roomy.url)
    small, packed = client.show("small"), client.show("packed")
    assert "temperature" in str(small.parameters)
    assert small.modelinfo is not None
    assert small.modelinfo["qwen3.context_length"] == CONTEXT
    assert small.capabilities is not None
    assert "completion" in small.capabilities
    assert packed.license == "Free."
    assert packed.modelinfo is not None
    assert packed.modelinfo["general.architecture"] == "qwen3"
    assert packed.modelinfo["tokenizer.ggml.tokens"] == []
    assert packed.template
    raw = httpx.post(f"{roomy.url}/api/show", json={"model": "small"}).json()
    assert raw["system"] == "Be brief."
    assert {"name", "type", "shape"} == set(raw["tensors"][0])
    with pytest.raises(ollama.ResponseError, match="model 'nosuch' not found"):
        client.show("nosuch")
    assert loaded(roomy) == []


def test_ps_tells_how_long_and_how_large(roomy: Serving) -> None:
    ask(roomy, "small", keep_alive="10m")
    ask(roomy, "packed", keep_alive=-1)
    first, second = ollama.Client(roomy.url).ps().models
    assert (first.model, second.model) == ("packed:latest", "small:latest")
    assert second.expires_at is not None
    assert 580 < (second.expires_at - datetime.now(UTC)).total_seconds() < 601
    assert first.expires_at is not None
    assert first.expires_at.year > 2200
    assert second.size is not None
    assert second.size > 450_000_000
    assert (second.size_vram, second.context_length) == (0, CONTEXT)
    tagged = {model.model: model.digest for model in ollama.Client(roomy.url).list().models}
    assert second.digest == tagged["small:latest"]


def test_a_call_without_a_prompt_loads_and_with_keep_alive_0_unloads(roomy: Serving) -> None:
    client = ollama.Client(roomy.url, timeout=60)
    assert client.generate("small").done_reason == "load"
    assert loaded(roomy) == ["small:latest"]
    assert client.chat("small", []).done_reason == "load"
    assert client.chat("SMALL", [], keep_alive=0).done_reason == "unload"
    until(lambda: not loaded(roomy))
    assert client.generate("small", keep_alive=0).done_reason == "unload"  # it is not loaded for that
    assert loaded(roomy) == []
    with pytest.raises(ollama.ResponseError, match="model 'nosuch' not found"):
        client.generate("nosuch", keep_alive=0)


def test_keep_alive_0_unloads_at_once_after_the_answer(roomy: Serving) -> None:
    assert ask(roomy, "small", keep_alive=0).message.content
    until(lambda: not loaded(roomy))
    assert ask(roomy, "small").message.content  # and it can be loaded again
    assert loaded(roomy) == ["small:latest"]


def test_a_model_expires_when_nobody_uses_it(catalog: Catalog) -> None:
    with managing(catalog, Policy(stays=0.2), **ROOMY) as served:
        answer = Answer(served, "small")
        assert loaded(served) == ["small:latest"]
        assert ask(served, "packed", keep_alive="1h").message.content
        answer.leave()
        until(lambda: loaded(served) == ["packed:latest"])


def test_other_options_reload_nothing_and_a_larger_context_does(catalog: Catalog) -> None:
    with managing(catalog, Policy(context=512), **ROOMY) as served:
        ask(served, "small", options={"temperature": 1.0, "top_k": 3, "num_ctx": 256, "num_thread": 1})
        ask(served, "small", options={"num_ctx": 512})
        assert loads(served, "small:latest") == 1
        assert ollama.Client(served.url).ps().models[0].context_length == 512
        answer = Answer(served, "small")
        with ThreadPoolExecutor(1) as threads:
            larger = threads.submit(ask, served, "small", options={"num_ctx": 1024})
            until(lambda: waiting(served) == 1)
            assert loads(served, "small:latest") == 1  # not while it answers
            answer.leave()
            assert larger.result(60).message.content
        assert loads(served, "small:latest") == 2
        assert ollama.Client(served.url).ps().models[0].context_length == 1024
        ask(served, "small", options={"num_ctx": 100_000})  # as much as the model has
        assert ollama.Client(served.url).ps().models[0].context_length == CONTEXT
        ask(served, "small", options={"num_ctx": 512})
        assert loads(served, "small:latest") == 3


def waiting(served: Serving) -> int:
    """How many wait for a model."""
    return len(served.gateway._models._residents.waiting)  # type: ignore[attr-defined]


def test_the_longest_unused_goes_when_another_needs_its_room(narrow: Serving) -> None:
    ask(narrow, "small")
    ask(narrow, "packed")
    assert loaded(narrow) == ["packed:latest"]
    ask(narrow, "small")
    assert loaded(narrow) == ["small:latest"]
    evicted = {one.name: one.metrics.evictions for one in narrow.gateway.accounts}
    assert evicted["small:latest"] >= 1
    text = httpx.get(f"{narrow.url}/metrics").text
    assert 'tutti_model_loaded{model_name="small:latest"} 1.0' in text
    assert 'tutti_model_loaded{model_name="packed:latest"} 0.0' in text
    assert 'tutti_model_evictions_total{model_name="packed:latest"} 1.0' in text
    assert 'tutti_model_load_seconds_total{model_name="packed:latest"}' in text


def test_a_model_that_answers_is_never_evicted(narrow: Serving) -> None:
    answer = Answer(narrow, "small")
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(ask, narrow, "packed")
        until(lambda: waiting(narrow) == 1)
        assert next(answer.pieces)
        assert loaded(narrow) == ["small:latest"]
        answer.leave()
        assert other.result(60).message.content
    assert loaded(narrow) == ["packed:latest"]


def test_calls_that_come_while_a_model_loads_share_one_load(roomy: Serving) -> None:
    before = loads(roomy, "small:latest")
    together = threading.Barrier(6)

    def call(number: int) -> bool:
        together.wait()
        return bool(ask(roomy, "small", options={"seed": number}).message.content)

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(call, range(6)))
    assert loads(roomy, "small:latest") == before + 1


def test_a_load_that_fails_is_told_and_disturbs_nobody(roomy: Serving) -> None:
    answer = Answer(roomy, "small")
    with pytest.raises(ollama.ResponseError) as told:
        ask(roomy, "broken")
    assert told.value.status_code == 500
    assert told.value.error
    with roomy.client() as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="broken", messages=HELLO)
    assert next(answer.pieces)
    answer.leave()
    assert loaded(roomy) == ["small:latest"]


def test_what_fits_nowhere_is_refused_with_the_sum_before_anything_goes(catalog: Catalog) -> None:
    with managing(catalog, memory=600_000_000, max_num_seqs=4) as served:
        ask(served, "small")
        with pytest.raises(ollama.ResponseError, match="not enough memory") as told:
            ask(served, "pico")
        assert "weights" in told.value.error
        assert loaded(served) == ["small:latest"]


def test_no_more_models_than_the_setting_allows(catalog: Catalog) -> None:
    with managing(catalog, Policy(most=1), **ROOMY) as served:
        ask(served, "small")
        ask(served, "packed")
        assert loaded(served) == ["packed:latest"]


def test_a_queue_that_is_full_answers_503_in_each_apis_words(catalog: Catalog) -> None:
    with managing(catalog, Policy(most=1, waiting=1), **ROOMY) as served:
        answer = Answer(served, "small")
        with ThreadPoolExecutor(1) as threads:
            other = threads.submit(ask, served, "packed")
            until(lambda: waiting(served) == 1)
            with pytest.raises(ollama.ResponseError, match="maximum pending requests exceeded") as told:
                ask(served, "other")
            assert told.value.status_code == 503
            with served.client() as client, pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(model="other", messages=HELLO)
            assert refused.value.status_code == 503
            assert refused.value.response.headers["retry-after"]
            answer.leave()
            assert other.result(60).message.content


def test_a_caller_who_leaves_while_it_waits_is_forgotten(catalog: Catalog) -> None:
    with managing(catalog, Policy(most=1), **ROOMY) as served:
        answer = Answer(served, "small")
        with pytest.raises(httpx.ReadTimeout):
            ollama.Client(served.url, timeout=1.0).chat("packed", HELLO)
        until(lambda: waiting(served) == 0)
        answer.leave()
        ask(served, "small")
        assert loads(served, "packed:latest") == 0


def test_loading_that_takes_too_long_is_a_typed_error(catalog: Catalog) -> None:
    with managing(catalog, Policy(patience=0.0), **ROOMY) as served:
        with pytest.raises(ollama.ResponseError, match="was not loaded within") as told:
            ask(served, "small")
        assert told.value.status_code == 500
        assert loaded(served) == []


def test_without_a_name_nothing_is_found(roomy: Serving, tmp_path: Path) -> None:
    with roomy.client() as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="", messages=HELLO)
    with roomy.client() as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=str(tmp_path), messages=HELLO)
    with pytest.raises(ollama.ResponseError, match="not found"):
        ask(roomy, "../../x")
