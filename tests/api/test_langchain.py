"""LangChain's own tests of chat models, by the two clients that programs use, against pico; and a call of a tool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from pico.evaluate import SHIPPED
from tests.api.scripted import THOUGHT, make_scripted
from tests.api.serving import Serving, serving

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # LangChain keeps connections from one test to the next
    pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio'"),
]


def look(where: str, times: int) -> str:
    """Looks somewhere."""
    return f"{where} {times}"


@pytest.fixture(scope="module")
def pico() -> Iterator[Serving]:
    """A server of pico."""
    with serving(model=str(SHIPPED), served_model_name=("pico",)) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose model thinks and calls a tool."""
    model = make_scripted(tmp_path_factory.mktemp("scripted") / "model")
    with serving(model=str(model), served_model_name=("thinker",)) as served:
        yield served


class _Standard(ChatModelIntegrationTests):
    """What pico can: it answers, streams, and stops; it was never taught to call tools."""

    url = ""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _served(cls, pico: Serving) -> None:
        cls.url = pico.url

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False


class TestOllama(_Standard):
    """By Ollama's API."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "pico", "base_url": self.url, "temperature": 0}


class TestOpenAI(_Standard):
    """By OpenAI's API."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "pico",
            "base_url": f"{self.url}/v1",
            "api_key": "none",
            "temperature": 0,
            "stream_usage": True,  # it would ask OpenAI's own address only
        }


class TestResponses(TestOpenAI):
    """By OpenAI's newer API."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return super().chat_model_params | {"use_responses_api": True}


@pytest.mark.parametrize("kind", ["ollama", "openai", "responses"])
def test_a_tool_is_called_and_told_what_it_said(thinker: Serving, kind: str) -> None:
    model: BaseChatModel
    if kind == "ollama":
        model = ChatOllama(model="thinker", base_url=thinker.url, temperature=0, reasoning=True)
    else:
        model = ChatOpenAI(
            model="thinker",
            base_url=f"{thinker.url}/v1",
            api_key="none",
            temperature=0,
            use_responses_api=kind == "responses",
        )
    bound = model.bind_tools([look])
    question = HumanMessage("Where?")
    answer = bound.invoke([question])
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("look", {"where": "up", "times": 2})
    if kind == "ollama":
        assert answer.additional_kwargs["reasoning_content"].strip() == THOUGHT
    told = ToolMessage(look(**call["args"]), tool_call_id=call["id"])
    assert bound.invoke([question, answer, told]).tool_calls
