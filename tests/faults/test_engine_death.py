"""The engine process dies by SIGKILL: who is served gets a clear 500, the front stays, a new engine comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.api.serving import Serving, serving, until
from tutti.engine.process import ProcessEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(make_engine=ProcessEngine) as served:
        yield served


def _pid(server: Serving) -> int:
    assert isinstance(server.engine, ProcessEngine)
    assert server.engine.pid is not None
    return server.engine.pid


def _healthy(server: Serving) -> bool:
    return httpx.get(f"{server.url}/health").status_code == 200


def test_a_killed_engine_fails_its_requests_and_is_replaced(server: Serving) -> None:
    before = _pid(server)
    with server.client() as client:
        stream = client.completions.create(
            model="tiny",
            prompt="until the end",
            max_tokens=4000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(stream)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="engine process ended") as caught:
            for _ in stream:
                pass
        assert caught.value.code == "engine_died"

        assert httpx.get(f"{server.url}/version").status_code == 200  # the front never went away
        assert httpx.get(f"{server.url}/metrics").status_code == 200
        assert client.models.list().data
        until(lambda: _healthy(server), 60)
        assert _pid(server) != before
        assert client.completions.create(model="tiny", prompt="again", max_tokens=3).choices
    server.everything_is_returned()


def test_a_request_that_waits_for_its_answer_gets_a_500(server: Serving) -> None:
    import threading

    answers: list[httpx.Response] = []

    def ask() -> None:
        body = {"prompt": "wait", "max_tokens": 4000, "ignore_eos": True}
        answers.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: server.stats().running == 1)
    os.kill(_pid(server), signal.SIGKILL)
    asking.join(30)
    assert answers[0].status_code == 500
    assert answers[0].json()["error"]["code"] == "engine_died"


def test_while_the_engine_starts_again_callers_are_told_to_come_back(server: Serving) -> None:
    until(lambda: _healthy(server), 60)
    os.kill(_pid(server), signal.SIGKILL)
    until(lambda: not _healthy(server))
    response = httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "max_tokens": 1})
    assert response.status_code in (500, 503)
    health = httpx.get(f"{server.url}/health")
    if health.status_code != 200:
        assert health.status_code == 503
        assert int(health.headers["retry-after"]) >= 1
    until(lambda: _healthy(server), 60)
    with server.client() as client:
        assert client.completions.create(model="tiny", prompt="again", max_tokens=1).choices
    server.everything_is_returned()
