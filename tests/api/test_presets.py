"""What a model was made with, by its Modelfile: every API begins conversations so, and a request's own word counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import pytest

from tests.api.serving import Serving, managing
from tests.api.stocked import add, stock
from tutti.gateway.catalog import Catalog
from tutti.hub.store import Store

SYSTEM = {"role": "system", "content": "You are Mario."}
EARLIER = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
HELLO = [{"role": "user", "content": "hello"}]
MARIO = """FROM small
SYSTEM You are Mario.
MESSAGE user Who?
MESSAGE assistant Me.
PARAMETER num_predict 9
PARAMETER temperature 0
PARAMETER num_ctx 512
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Of small models."""
    return stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def served(store: Store) -> Iterator[Serving]:
    """A server of `plain`, of `mario`, and of `curt`, whose template is the prompt alone."""
    add(store, "plain", 'FROM small\nSYSTEM """"""\n')
    add(store, "mario", MARIO)
    add(store, "curt", 'FROM small\nTEMPLATE """{{ .Prompt }}"""\n')
    with managing(Catalog(store), memory=4_000_000_000, max_num_seqs=4) as made:
        yield made


def ask(served: Serving, model: str, messages: list[Any], **options: Any) -> tuple[int | None, str | None]:
    """The length of the prompt in tokens, and the answer."""
    answer = ollama.Client(served.url, timeout=60).chat(model, messages, options=options)
    return answer.prompt_eval_count, answer.message.content


def test_conversations_begin_with_what_the_model_was_made_with(served: Serving) -> None:
    greedy = {"temperature": 0, "num_predict": 9}
    assert ask(served, "mario", HELLO) == ask(served, "plain", [SYSTEM, *EARLIER, *HELLO], **greedy)
    other = {"role": "system", "content": "You are Luigi."}
    assert ask(served, "mario", [other, *HELLO]) == ask(served, "plain", [*EARLIER, other, *HELLO], **greedy)


def test_so_do_the_other_apis(served: Serving) -> None:
    length, _ = ask(served, "mario", HELLO)
    with served.client() as client:
        chat = client.chat.completions.create(model="mario", messages=HELLO, max_tokens=1)  # type: ignore[arg-type]
        assert chat.usage is not None
        assert chat.usage.prompt_tokens == length
    counted = anthropic.Anthropic(base_url=served.url, api_key="none").messages.count_tokens(
        model="mario",
        messages=HELLO,  # type: ignore[arg-type]
    )
    assert counted.input_tokens == length


def test_generate_begins_so_too_but_not_behind_earlier_turns(served: Serving) -> None:
    client = ollama.Client(served.url, timeout=60)
    length, content = ask(served, "mario", HELLO)
    first = client.generate("mario", "hello")
    assert (first.prompt_eval_count, first.response) == (length, content)
    assert first.context is not None
    again = client.generate("mario", "hello", context=list(first.context))
    bare = client.generate("plain", "hello", options={"num_predict": 1})
    assert again.prompt_eval_count is not None
    assert bare.prompt_eval_count is not None
    assert again.prompt_eval_count - len(first.context) <= bare.prompt_eval_count


def test_parameters_count_where_a_request_says_nothing(served: Serving) -> None:
    client = ollama.Client(served.url, timeout=60)
    assert client.chat("mario", HELLO).eval_count == 9
    assert client.chat("mario", HELLO, options={"num_predict": 2}).eval_count == 2
    (running,) = [model for model in client.ps().models if model.model == "mario:latest"]
    assert running.context_length == 512


def test_they_count_behind_the_other_apis_too(served: Serving) -> None:
    _, content = ask(served, "mario", HELLO)
    client = served.client()
    hello: Any = HELLO
    chat = client.chat.completions.create(model="mario", messages=hello)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == (content, "length")
    assert client.responses.create(model="mario", input="hello").output_text == content
    longer = client.chat.completions.create(model="mario", messages=hello, max_tokens=5)
    assert longer.usage is not None
    assert longer.usage.completion_tokens == 5
    text = client.completions.create(model="mario", prompt="hello")
    assert text.usage is not None
    assert text.usage.completion_tokens == 9
    assert content
    said = anthropic.Anthropic(base_url=served.url, api_key="none").messages.create(
        model="mario", messages=hello, max_tokens=9
    )
    assert said.content[0].text == content  # type: ignore[union-attr]


def test_a_stop_of_the_modelfile_ends_answers_until_a_request_names_its_own(
    served: Serving, store: Store
) -> None:
    client = served.client()
    hello: Any = HELLO
    whole = client.chat.completions.create(model="mario", messages=hello, max_tokens=20).choices[0]
    text = whole.message.content or ""
    assert len(text) > 2
    add(store, "halting", f'{MARIO}PARAMETER num_predict 20\nPARAMETER stop "{text[2]}"\n')
    halted = client.chat.completions.create(model="halting", messages=hello).choices[0]
    assert (halted.message.content, halted.finish_reason) == (text[: text.index(text[2])], "stop")
    other = client.chat.completions.create(model="halting", messages=hello, stop=["\0"]).choices[0]
    assert other.message.content == text


def test_a_length_of_the_modelfile_is_cut_to_the_context(served: Serving, store: Store) -> None:
    add(store, "endless", f"{MARIO}PARAMETER num_predict 100000\n")
    hello: Any = HELLO
    with served.client().chat.completions.create(model="endless", messages=hello, stream=True) as stream:
        assert next(iter(stream)).choices


def test_a_template_is_what_a_model_loaded_on_demand_is_prompted_by(served: Serving) -> None:
    length, _ = ask(served, "curt", HELLO, num_predict=1)
    raw = ollama.Client(served.url, timeout=60).generate(
        "plain", "hello", raw=True, options={"num_predict": 1}
    )
    assert length == raw.prompt_eval_count
