"""The description of Ollama's API is true: its shapes are the code's, and nothing answers otherwise than it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ollama
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.api.contract import description, shapes
from tests.api.storing import storing
from tests.gguf_files import write_gguf
from tests.hub.registry import Registry, serve_registry
from tutti.api.app import _OLLAMA
from tutti.hub.store import Store

if TYPE_CHECKING:
    from tests.api.serving import Serving

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


def operations() -> dict[str, APIOperation[Any, Any, Any]]:
    """Every operation that the file describes."""
    schema = schemathesis.openapi.from_dict(description())
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {f"{one.method.upper()} {one.path}": one for one in found}


OPERATIONS = operations()
# Fields that may name a registry: nobody but our own is asked for anything.
REMOTE = {
    "POST /api/pull": ("model", "name"),
    "POST /api/push": ("model", "name"),
    "POST /api/create": ("from",),
}
ANSWERS = ("chat", "generate", "embed", "embeddings", "show", "tags", "ps", "version")


def test_the_shapes_are_those_that_the_code_reads_and_sends() -> None:
    described = description()["components"]["schemas"]
    assert {name: shape for name, shape in described.items() if "title" in shape} == shapes(), (
        "python -m tests.api.contract"
    )


def test_every_path_is_described() -> None:
    routed = {f"{method} {path}" for path, method, *_ in _OLLAMA if path != "/"}
    assert set(OPERATIONS) == routed | {"POST /api/blobs/{digest}"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Registry]]:
    """A server with a store, in which there is a model, and a registry that it may reach."""
    folder = tmp_path_factory.mktemp("contract")
    with serve_registry() as registry, storing(Store(folder / "models")) as url:
        fill(url, write_gguf(folder / "tiny.gguf"))
        yield url, registry


def fill(url: str, file: Path) -> None:
    with ollama.Client(url, timeout=60) as client:
        client.create("tiny", files={"tiny.gguf": client.create_blob(file)})


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name.rpartition("/")[2] not in ANSWERS])
def test_no_request_that_changes_the_store_breaks_the_contract(
    name: str, stored: tuple[str, Registry]
) -> None:
    url, registry = stored

    @given(case=OPERATIONS[name].as_strategy())
    @settings(max_examples=25, deadline=None, database=None)
    def ask(case: Case) -> None:
        if isinstance(case.body, dict):
            for field in REMOTE.get(name, ()):
                if isinstance(case.body.get(field), str):
                    case.body[field] = f"{registry.url}/a/{case.body[field]}"
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=60)

    ask()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name.rpartition("/")[2] in ANSWERS])
def test_no_request_for_an_answer_breaks_the_contract(name: str, server: Serving) -> None:
    @given(case=OPERATIONS[name].as_strategy())
    @settings(max_examples=25, deadline=None, database=None)
    def ask(case: Case) -> None:
        if isinstance(case.body, dict):
            if len(case.body) % 2:
                case.body["model"] = "tiny"
            if isinstance(case.body.get("options"), dict | None):  # an answer may be long
                case.body["options"] = (case.body.get("options") or {}) | {"num_predict": 2}
        case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=60)

    ask()
    server.everything_is_returned()
