"""Models with a template of Ollama's behind both doors: prompts, capabilities, refusals, insertion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from tests.api.serving import Serving, serving
from tests.api.serving import checkpoint as tiny_checkpoint
from tests.processor.test_ollama_template import CHATML, CODELLAMA, QWEN, WEATHER
from tutti.gateway.opening import processor_of
from tutti.hub.create import create
from tutti.hub.modelfile import read_modelfile
from tutti.hub.registry import Options
from tutti.hub.store import open_store
from tutti.llm.options import engine_options

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 8}
PLAIN = "[{{ .System }}|{{ .Prompt }}]{{ .Response }}"


@pytest.fixture(scope="module")
def qwen() -> Iterator[Serving]:
    """A server whose model has a template with tools and a suffix."""
    with serving(template=QWEN) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(qwen: Serving) -> Iterator[ollama.Client]:
    with ollama.Client(qwen.url, timeout=60) as made:
        yield made


def raw(client: ollama.Client, prompt: str) -> str:
    return client.generate("tiny", prompt, raw=True, options=GREEDY).response


def test_chats_of_both_doors_are_prompted_by_it(client: ollama.Client, qwen: Serving) -> None:
    prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    expected = raw(client, prompt)
    assert client.chat("tiny", HELLO, options=GREEDY).message.content == expected
    with qwen.client() as theirs:
        answer = theirs.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_tokens=8)
    assert answer.choices[0].message.content == expected


def test_its_variables_are_the_models_abilities(client: ollama.Client) -> None:
    shown = client.show("tiny")
    assert shown.template == QWEN
    assert shown.capabilities == ["completion", "insert", "tools"]
    with serving(template=CHATML) as plain, ollama.Client(plain.url, timeout=60) as other:
        assert other.show("tiny").capabilities == ["completion"]
        with pytest.raises(ollama.ResponseError, match="tiny:latest does not support tools"):
            other.chat("tiny", HELLO, tools=[WEATHER])
        with pytest.raises(ollama.ResponseError, match="does not support thinking"):
            other.chat("tiny", HELLO, think=True)
        with pytest.raises(ollama.ResponseError, match="tiny:latest does not support insert"):
            other.generate("tiny", "a", suffix="b")


def test_a_prompt_before_a_suffix_is_an_insertion(client: ollama.Client, qwen: Serving) -> None:
    expected = raw(client, "<|fim_prefix|>def add(<|fim_suffix|>return x<|fim_middle|>")
    assert client.generate("tiny", "def add(", suffix="return x", options=GREEDY).response == expected
    with qwen.client() as theirs:
        answer = theirs.completions.create(
            model="tiny", prompt="def add(", suffix="return x", temperature=0, max_tokens=8, echo=True
        )
        assert answer.choices[0].text == "def add(" + expected
        with pytest.raises(openai.BadRequestError, match="suffix goes with prompts of text"):
            theirs.completions.create(model="tiny", prompt=[1, 2], suffix="b")


def test_generate_takes_a_template_of_the_callers(client: ollama.Client) -> None:
    answer = client.generate("tiny", "hi", system="S", template=PLAIN, options=GREEDY)
    assert answer.response == raw(client, "[S|hi]")
    given = client.generate("tiny", "a", suffix="b", template=CODELLAMA, options=GREEDY)
    assert given.response == raw(client, "<PRE> a <SUF>b <MID>")
    for template, words in (
        ("{{ .Prompt", "unclosed action"),
        ("{{ range 1000000000 }}{{ end }}", "too many steps"),
    ):
        with pytest.raises(ollama.ResponseError, match=words):
            client.generate("tiny", "hi", template=template)


def test_a_conversation_goes_on_behind_its_context(client: ollama.Client) -> None:
    first = client.generate("tiny", "hi", system="S", template=PLAIN, options=GREEDY)
    second = client.generate("tiny", "you", template=PLAIN, context=first.context, options=GREEDY)
    assert second.prompt_eval_count == len(first.context or ()) + len("[|you]")
    assert second.context is not None
    assert list(second.context)[: len(first.context or ())] == list(first.context or ())


def test_a_model_without_a_template_is_prompted_by_its_own_or_the_callers() -> None:
    with serving() as served, ollama.Client(served.url, timeout=60) as other:
        own = other.generate("tiny", "hi", options=GREEDY)
        given = other.generate("tiny", "hi", template=PLAIN, options=GREEDY)
        assert given.response == other.generate("tiny", "[|hi]", raw=True, options=GREEDY).response
        assert own.prompt_eval_count != given.prompt_eval_count


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUTTI_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


async def test_a_template_of_the_store_reaches_the_processor(store: Path) -> None:
    async def make(name: str, text: str) -> None:
        def describe(path: Path) -> Any:
            raise AssertionError(path)

        text = f"FROM {tiny_checkpoint()}\n{text}"
        async for _ in create(
            open_store(), name, read_modelfile(text), describe, folder=store.parent, options=Options()
        ):
            pass

    await make("templated", f'TEMPLATE """{CHATML}"""\n')
    await make("rendered", 'TEMPLATE "{{ .Prompt }}"\nRENDERER qwen3-coder\n')
    await make("plain", "")
    assert engine_options("templated", {}).template == CHATML
    assert processor_of(engine_options("templated", {})).templates.source == CHATML
    assert engine_options("rendered", {}).template is None
    assert engine_options("plain", {}).template is None
    assert engine_options("templated", {"template": QWEN}).template == QWEN
    jinja = engine_options("templated", {"chat_template": "{{ messages }}"})
    assert processor_of(jinja).templates.source == "{{ messages }}"
