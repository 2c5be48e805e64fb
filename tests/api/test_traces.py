"""How a request went, asked over HTTP of a server with a tiny model that hears and speaks."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families

from tests.api.serving import Serving, serving, until
from tests.models import checkpoints
from tutti.trace import Trace

CODES = {"temperature": 0.0, "max_tokens": 100, "allowed_token_ids": list(range(64))}  # none of them an end
SPOKEN: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "pcm16"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(model=str(checkpoints.cached("qwen2_5_omni"))) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(server: Serving) -> Iterator[openai.OpenAI]:
    with server.client() as made:
        yield made


def wav() -> str:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(9_000) * 0.2), 16_000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


def ask(client: openai.OpenAI, **options: Any) -> Any:
    body = {"ignore_eos": True, "stage_sampling": {"talker": CODES}, **options.pop("extra_body", {})}
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    return client.chat.completions.create(**asked | {"temperature": 0, "extra_body": body} | options)


def traces(server: Serving, name: str) -> list[Trace]:
    answer = httpx.get(f"{server.url}/v1/traces/{name}")
    assert answer.status_code == 200, answer.text
    return msgspec.convert(answer.json()["data"], list[Trace])


def ended(server: Serving, name: str) -> Trace:
    """The one trace of a request, once it is complete."""
    until(lambda: all(trace.ended for trace in traces(server, name)))
    (trace,) = traces(server, name)
    return trace


def test_a_spoken_answer_shows_its_passage_through_the_stages(server: Serving, client: openai.OpenAI) -> None:
    content = [
        {"type": "input_audio", "input_audio": {"data": wav(), "format": "wav"}},
        {"type": "text", "text": "What was that?"},
    ]
    stream = ask(client, messages=[{"role": "user", "content": content}], stream=True, **SPOKEN)
    (name,) = {chunk.id for chunk in stream}
    trace = ended(server, name)
    assert (trace.outcome, trace.completion_tokens, trace.underruns) == ("length", 8, len(trace.marks) - 2)
    assert trace.inputs == ("text", "audio") and trace.outputs == ("text", "audio")
    assert trace.sound == pytest.approx(100 / 50)
    stages = {stage.name: stage for stage in trace.stages}
    assert list(stages) == ["audio", "thinker", "talker", "token2wav"]
    assert [stage.outputs for stage in trace.stages][:3] == [1, 8, 100]
    first_text, first_sound = trace.mark("first_text"), trace.mark("first_sound")
    assert first_text is not None and first_sound is not None
    assert trace.reading is not None and trace.submitted is not None and trace.ended is not None
    moments = [
        trace.arrival, *trace.reading, trace.submitted, stages["audio"].steps[0].start,
        stages["audio"].steps[-1].end, stages["thinker"].steps[0].start, first_text.at,
        stages["thinker"].steps[-1].end, stages["talker"].steps[-1].end, trace.ended,
    ]  # fmt: skip
    assert moments == sorted(moments)
    assert first_text.at < first_sound.at < stages["talker"].steps[-1].end  # heard before all was spoken
    for stage in trace.stages:
        assert stage.entered is not None and stage.made is not None
        assert stage.entered <= stage.steps[0].start + 1e-3
        ends = [moment for one in stage.steps for moment in (one.start, one.end)]
        assert ends == sorted(ends)
        assert all(0 < one.busy <= one.end - one.start + 1e-6 for one in stage.steps)
        phases = stage.phases(trace.ended)
        assert [phase.name for phase in phases] == (
            ["queue", "prefill", "decode"] if stage.kind == "autoregress" else ["queue", "compute"]
        )
        assert all(a.end == b.start for a, b in pairwise(phases))


def numbers(server: Serving) -> dict[tuple[str, str], float]:
    """The stages' numbers in /metrics, by name and stage."""
    text = httpx.get(f"{server.url}/metrics").text
    return {
        (sample.name.removeprefix("tutti_stage_"), sample.labels["stage"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "stage" in sample.labels
    }


def test_the_metrics_of_a_stage_are_the_sum_of_its_traces(server: Serving, client: openai.OpenAI) -> None:
    before, start = numbers(server), time.monotonic()
    trace = ended(server, ask(client, **SPOKEN).id)
    grown = {key: value - before[key] for key, value in numbers(server).items()}
    seconds = time.monotonic() - start
    for stage in trace.stages:  # it was alone
        assert grown["steps_total", stage.name] == stage.count
        assert grown["items_total", stage.name] == stage.count * stage.batch
        assert stage.busy <= grown["seconds_total", stage.name] <= seconds
        assert numbers(server)["waiting", stage.name] == 0
    assert grown["steps_total", "audio"] == 0


def test_a_request_for_text_alone_never_meets_the_talker(server: Serving, client: openai.OpenAI) -> None:
    trace = ended(server, ask(client).id)
    assert [stage.name for stage in trace.stages] == ["thinker"]
    assert trace.mark("first_sound") is None and trace.outcome == "length"


def test_each_output_has_a_trace(server: Serving, client: openai.OpenAI) -> None:
    name = ask(client, n=3).id
    until(lambda: all(trace.ended for trace in traces(server, name)))
    assert [trace.request.rpartition("#")[2] for trace in traces(server, name)] == ["0", "1", "2"]
    assert all(trace.reading for trace in traces(server, name))


def test_the_batch_of_a_step_is_all_that_were_in_it(server: Serving, client: openai.OpenAI) -> None:
    name = ask(client, n=4, max_tokens=30).id
    until(lambda: all(trace.ended for trace in traces(server, name)))
    assert all(trace.stages[0].batch > 2 for trace in traces(server, name))


def test_a_listener_who_leaves_leaves_a_trace(server: Serving, client: openai.OpenAI) -> None:
    stream = ask(client, stream=True, max_tokens=200, **SPOKEN)
    name = next(stream).id
    stream.close()
    trace = ended(server, name)
    assert trace.outcome == "cancelled" and trace.error is None
    assert trace.stages[0].name == "thinker" and trace.stages[0].count > 0


def test_a_stop_string_is_an_end_like_others(server: Serving, client: openai.OpenAI) -> None:
    text = ask(client, max_tokens=30).choices[0].message.content
    name = ask(client, max_tokens=200, stop=text[5:8]).id
    assert ended(server, name).outcome == "stop"


def test_what_fails_has_a_trace_that_says_why(server: Serving, client: openai.OpenAI) -> None:
    for number, (what, options) in enumerate(
        (
            ("InvalidRequest", SPOKEN | {"audio": {"voice": "nobody", "format": "wav"}}),  # in a stage
            ("ContextOverflow", {"messages": [{"role": "user", "content": "x" * 9000}]}),  # before the engine
        )
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, extra_headers={"x-request-id": f"bad{number}"}, **options)
        assert caught.value.request_id == f"bad{number}"
        trace = ended(server, f"bad{number}")
        assert trace.outcome == "error" and trace.error is not None and trace.error.kind == what


def test_a_request_is_found_by_its_callers_own_id(server: Serving, client: openai.OpenAI) -> None:
    answer = ask(client, extra_headers={"x-request-id": "mine-7"})
    assert answer._request_id == "mine-7" and answer.id == "chatcmpl-mine-7"
    assert ended(server, "mine-7").request == ended(server, answer.id).request
    latest = httpx.get(f"{server.url}/v1/traces").json()["data"][0]
    assert latest["request"].startswith("chatcmpl-mine-7-") and latest["outcome"] == "length"
    strange = httpx.get(f"{server.url}/version", headers={"x-request-id": "a b"})
    assert strange.headers["x-request-id"] != "a b"


def test_what_was_never_asked_has_no_trace(server: Serving) -> None:
    answer = httpx.get(f"{server.url}/v1/traces/chatcmpl-nothing")
    assert answer.status_code == 404 and "no trace of 'chatcmpl-nothing'" in answer.text
