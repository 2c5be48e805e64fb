"""`tutti trace`, and spans sent to a collector: against `tutti serve` with its engine in a process of its own."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.cli.terminal import Terminal, tutti
from tests.cli.test_serve import Server
from tests.models import checkpoints
from tutti.cli.picture import draw
from tutti.cli.timeline import Timeline
from tutti.trace import Mark, StageTrace, Steps, Trace

SPOKEN: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "pcm16"}}
CODES = {"temperature": 0.0, "max_tokens": 100, "allowed_token_ids": list(range(64))}
CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")  # trace and span


class Collector:
    """Speaks OTLP over HTTP and keeps the spans it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        receive = self.receive

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                receive(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def receive(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(attributes["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def of(self, trace: str) -> list[Any]:
        """The spans of a trace, once its root is there."""
        deadline = time.monotonic() + 30
        while True:
            found = [span for span in self.spans if span.trace_id.hex() == trace]
            if any(span.kind == 2 for span in found):  # SERVER
                return found
            assert time.monotonic() < deadline, "no span came"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        environment.setenv("OTEL_SERVICE_NAME", "voices")
        model = str(checkpoints.cached("qwen2_5_omni"))
        flags = "--served-model-name tiny --dtype float32 --memory 2GB --threads 1 --api-key secret".split()
        running = Server(model, *flags, "--otlp-endpoint", collector.url)
    yield running
    code, errors = running.end()
    assert code == 0, errors


def ask(server: Server, **options: Any) -> Any:
    client = openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0)
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    body = {"ignore_eos": True, "stage_sampling": {"talker": CODES}}
    return client.chat.completions.create(**asked | {"temperature": 0, "extra_body": body} | options)


def shown(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = server.url.removesuffix("/v1")
    return tutti("trace", *arguments, "--url", url, "--api-key", "secret", environment={"COLUMNS": "100"})


def test_a_request_is_drawn_in_the_terminal_and_as_a_picture(server: Server, tmp_path: Path) -> None:
    name = ask(server, **SPOKEN).id
    result = shown(server, name)
    assert result.returncode == 0, result.stderr
    for what in (
        name,
        "│0 s",
        "front",
        "thinker",
        "talker",
        "token2wav",
        "first sound",
        "100 tokens",
        "prefill",
    ):
        assert what in result.stdout, result.stdout
    assert re.search(r"[▁▂▃▄▅▆▇█]", result.stdout)
    assert shown(server, "--last").stdout == result.stdout
    assert name in shown(server).stdout  # the list
    file = tmp_path / "picture.svg"
    assert shown(server, name, "-o", str(file)).returncode == 0
    picture = ElementTree.fromstring(file.read_text())
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"thinker", "talker", "token2wav", "first text", "first sound"} <= texts
    (trace,) = json.loads(shown(server, name, "--json").stdout)
    assert msgspec.convert(trace, Trace).sound == pytest.approx(2.0)


def test_a_request_that_nobody_made_is_a_clear_error(server: Server) -> None:
    result = shown(server, "chatcmpl-nothing")
    assert result.returncode == 1 and "no trace of 'chatcmpl-nothing'" in result.stderr
    result = tutti("trace", "--last", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1 and "no server answers" in result.stderr
    result = tutti("trace", "x", "-o", "picture.png")
    assert result.returncode != 0 and "must end with .svg" in result.stderr


def test_a_request_becomes_spans_below_its_callers(server: Server, collector: Collector) -> None:
    trace, parent = CALLER
    name = ask(server, **SPOKEN, extra_headers={"traceparent": f"00-{trace}-{parent}-01"}).id
    spans = collector.of(trace)
    by_id = {span.span_id: span for span in spans}
    (root,) = (span for span in spans if span.kind == 2)
    assert root.parent_span_id.hex() == parent
    assert root.name == "chat tiny"
    attributes = {one.key: one.value for one in root.attributes}
    assert attributes["gen_ai.response.id"].string_value.startswith(name)
    assert attributes["gen_ai.usage.output_tokens"].int_value == 8
    assert attributes["gen_ai.output.type"].string_value == "speech"
    assert [event.name for event in root.events][:2] == ["first_text", "first_sound"]
    stages = [span for span in spans if span.parent_span_id == root.span_id]
    assert {span.name for span in stages} == {"front", "stage thinker", "stage talker", "stage token2wav"}
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span is not root:
            above = by_id[span.parent_span_id]
            assert above.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= above.end_time_unix_nano
    (talker,) = (span for span in stages if span.name == "stage talker")
    phases = [span for span in spans if span.parent_span_id == talker.span_id]
    phases.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in phases] == ["queue", "prefill", "decode"]
    assert collector.services == {"voices"}


def test_text_alone_has_no_span_of_the_talker_and_what_fails_is_an_error(
    server: Server, collector: Collector
) -> None:
    trace = "1" * 32
    ask(server, extra_headers={"traceparent": f"00-{trace}-{CALLER[1]}-01"})
    assert not any("talker" in span.name for span in collector.of(trace))
    trace = "2" * 32
    wrong = SPOKEN | {"audio": {"voice": "nobody", "format": "wav"}}
    with pytest.raises(openai.BadRequestError):
        ask(server, **wrong, extra_headers={"traceparent": f"00-{trace}-{CALLER[1]}-01"})
    (root,) = (span for span in collector.of(trace) if span.kind == 2)
    assert root.status.code == 2 and "this model has Ada" in root.status.message
    trace = "3" * 32
    ask(server, extra_headers={"traceparent": f"00-{trace}-{CALLER[1]}-00"})  # the caller does not sample it
    assert not [span for span in collector.spans if span.trace_id.hex() == trace]


def test_without_the_extra_the_flag_is_an_error() -> None:
    code = "import sys; sys.modules['opentelemetry.sdk'] = None; from tutti.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", "pico", "--otlp-endpoint", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "pip install 'tutti-engine[otel]'" in done.stderr


def _trace(count: int) -> Trace:
    steps = tuple(Steps(10.0 + n, 10.5 + n, 0.5, 1, 1.0 + n, 1) for n in range(count))
    stage = StageTrace("<odd & name>", "once", 9.0, 10.5, steps)
    dry = tuple(Mark("underrun", 11.0 + n, 0.1) for n in range(count))
    return Trace(request="r", arrival=8.0, ended=10.5 + count, stages=(stage,), marks=dry, underruns=count)


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_any_trace_can_be_drawn(count: int) -> None:
    timeline = Timeline.of(_trace(count))
    picture = ElementTree.fromstring(draw([timeline, timeline]))
    bars = [one for one in picture.iter() if one.get("class") == "compute" and len(one)]
    assert len(bars) == 2 * count
    assert timeline.ticks(8)[0] == 0 and 2 <= len(timeline.ticks(8)) <= 9
    assert timeline.ticks(8)[-1] <= timeline.length


def test_a_terminal_shows_it_in_its_own_width(server: Server) -> None:
    ask(server, **SPOKEN)
    url = server.url.removesuffix("/v1")
    with Terminal("trace", "--last", "--url", url, "--api-key", "secret") as terminal:
        terminal.expect("busy")
        assert terminal.wait() == 0
    assert all(len(line) <= 80 for line in terminal.shown.splitlines())
