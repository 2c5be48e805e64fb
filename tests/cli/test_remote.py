"""`tutti run`, `ps` and `stop` against a server of Ollama's protocol: what is asked of it, and how its answers look."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ollama_server import OllamaServer, ollama_server, show
from tests.cli.terminal import Terminal, tutti
from tutti.cli.client import Client
from tutti.cli.flags import EngineFlags
from tutti.cli.place import choose
from tutti.settings import parse_address

ANSWER: list[dict[str, Any]] = [
    {"message": {"role": "assistant", "thinking": "A greeting."}, "done": False},
    {"message": {"role": "assistant", "content": "Good "}, "done": False},
    {"message": {"role": "assistant", "content": "day."}, "done": False},
    {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "total_duration": 2_500_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 3,
        "prompt_eval_duration": 500_000_000,
        "eval_count": 4,
        "eval_duration": 2_000_000_000,
    },
]
DIGEST = "sha256:" + "0123456789ab" + "c" * 52
STEPS: list[dict[str, Any]] = [
    {"status": "pulling manifest"},
    {"status": "pulling 0123456789ab", "digest": DIGEST, "total": 2_000_000},
    {"status": "pulling 0123456789ab", "digest": DIGEST, "total": 2_000_000, "completed": 2_000_000},
    {"status": "success"},
]
CHAT = show(
    *("completion", "thinking"),
    template="{{ .Prompt }}",
    parameters="temperature                    0.5",
    license="Take it.",
    modelfile="FROM mario\n",
    messages=[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Mario."}],
)


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    models = {"mario": CHAT, "plain": show("completion"), "vectors": show("embedding")} | {
        "painter": show("image")
    }
    with ollama_server(models=models, pullable={"new": CHAT}, answer=ANSWER, steps=STEPS) as running:
        yield running


def test_the_flags_are_what_the_server_is_asked(server: OllamaServer) -> None:
    flags = (
        "--verbose --keepalive 5m --temperature 0.3 --max-tokens 9 --format json --think=high --system Short."
    )
    result = tutti(
        "run", "mario", "hello", *flags.split(), environment=server.host | {"TUTTI_API_KEY": "key"}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Thinking...\nA greeting.\n...done thinking.\n\nGood day.\n"
    assert (
        result.stderr.split()
        == (
            "total duration: 2.5s load duration: 1ms prompt eval count: 3 token(s) prompt eval duration: 500ms "
            "prompt eval rate: 6.00 tokens/s eval count: 4 token(s) eval duration: 2s eval rate: 2.00 tokens/s"
        ).split()
    )
    assert server.bodies("/api/chat") == [
        {
            "model": "mario",
            "keep_alive": "5m",
            "think": "high",
            "options": {"temperature": 0.3, "num_predict": 9},
            "format": "json",
            "messages": [{"role": "system", "content": "Short."}, {"role": "user", "content": "hello"}],
        }
    ]
    assert server.keys == {"Bearer key"}


def test_what_the_server_lacks_is_pulled_with_its_progress_shown(server: OllamaServer) -> None:
    result = tutti("run", "new", "hello", "--insecure", "--hidethinking", environment=server.host)
    assert (result.returncode, result.stdout) == (0, "Good day.\n")
    assert result.stderr.splitlines() == ["pulling manifest", "pulling 0123456789ab (2 MB)", "success"]
    assert server.bodies("/api/pull") == [{"model": "new", "insecure": True}]


def test_a_model_that_nobody_has_is_the_pulls_error(server: OllamaServer) -> None:
    result = tutti("run", "nosuch", "hello", environment=server.host)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "Error: pull model manifest: file does not exist"


def test_an_embedding_model_prints_its_vector(server: OllamaServer) -> None:
    server.vector = [0.25, -1e-07, 1.0]
    result = tutti(
        "run", "vectors", "a text", "--dimensions", "3", "--truncate=false", environment=server.host
    )
    assert (result.returncode, result.stdout) == (0, "[0.25,-1e-07,1.0]\n")
    asked = {"model": "vectors", "input": "a text", "truncate": False, "dimensions": 3}
    assert server.bodies("/api/embed") == [asked]
    result = tutti("run", "vectors", environment=server.host)
    assert result.returncode == 1
    assert 'embedding models require input text. Usage: tutti run vectors "your text here"' in result.stderr


def test_an_error_in_the_middle_of_an_answer_ends_it(server: OllamaServer) -> None:
    server.answer = [ANSWER[1], {"error": "the model runner has stopped"}]
    result = tutti("run", "mario", "hello", environment=server.host)
    assert (result.returncode, result.stdout) == (1, "Good \n")
    assert result.stderr == "Error: the model runner has stopped\n"
    server.answer = [ANSWER[1]]
    result = tutti("run", "mario", "hello", environment=server.host)
    assert result.stderr == "Error: the server ended the answer before it was complete\n"


def test_ps_and_stop_are_ollamas(server: OllamaServer) -> None:
    rows = [("mario:latest", 5_000_000_000, 2_600_000_000, "2318-01-01T00:00:00.123456789-07:00")]
    rows += [
        ("plain:latest", 637_700_138, 0, "2001-01-01T00:00:00Z"),
        ("vectors:v1", 70, 70, "2001-01-01T00:00:00Z"),
    ]
    server.running = [
        {
            "name": name,
            "digest": DIGEST,
            "size": size,
            "size_vram": on_gpu,
            "expires_at": expires,
            "context_length": 4096,
        }
        for name, size, on_gpu, expires in rows
    ]
    table = tutti("ps", environment=server.host).stdout.splitlines()
    assert [re.split(r"\s{2,}", line) for line in table] == [
        ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"],
        ["mario:latest", "0123456789ab", "5 GB", "48%/52% CPU/GPU", "4096", "Forever"],
        ["plain:latest", "0123456789ab", "637 MB", "100% CPU", "4096", "Stopping..."],
        ["vectors:v1", "0123456789ab", "70 B", "100% GPU", "4096", "Stopping..."],
    ]
    assert len(tutti("ps", "mar", environment=server.host).stdout.splitlines()) == 2
    assert tutti("stop", "mario", environment=server.host).returncode == 0
    assert server.bodies("/api/generate") == [{"model": "mario", "keep_alive": 0, "stream": False}]
    result = tutti("stop", "nosuch", environment=server.host)
    assert (result.returncode, result.stderr) == (1, 'Error: couldn\'t find model "nosuch" to stop\n')


@pytest.mark.parametrize("command", [["ps"], ["stop", "mario"]])
def test_without_a_server_the_error_says_how_to_start_one(command: list[str]) -> None:
    result = tutti(*command)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: could not connect to a Tutti server, run 'tutti serve' to start it\n"


def test_a_conversation_loads_and_saves_models(server: OllamaServer, tmp_path: Path) -> None:
    server.models["toad"] = show("completion")
    environment = server.host | {"TUTTI_HOME": str(tmp_path), "OLLAMA_NOHISTORY": "1"}
    with Terminal("run", "mario", "--keepalive", "1h", environment=environment) as terminal:
        terminal.expect(r">>> Who\?\n+Mario\.\n.*>>> ")
        terminal.type("hello\n")
        terminal.expect(r"Thinking\.\.\..*Good day\.\n.*>>> ")
        for typed, shown in {
            "/set parameter num_gpu 1": "Set parameter 'num_gpu' to '1'",
            "/set parameter top_k many": r"Couldn't set parameter: \"invalid int value \[many\]\"",
            "/set parameter": r"Available Parameters:.*/set parameter num_predict <int>",
            "/show license": "Take it.",
            "/show modelfile": "FROM mario",
            "/show parameters": r"temperature\s+0.5.*User defined parameters:\s+num_gpu\s+1",
            "/show info": r"Model\n\s+architecture\s+llama.*context length\s+4096.*Capabilities\n\s+completion",
            "/? shortcuts": r"Ctrl \+ g",
            "/load": r"Usage:\s+/load <modelname>",
            "/load nosuch": "Loading model 'nosuch'.*Couldn't find model 'nosuch'",
            '/set system """Be\nkind."""': "Set system message",
            "/save luigi": "Created new model 'luigi'",
            "/load toad": "Loading model 'toad'",
            "/set think": 'warning: model "toad" does not support thinking output.*Set .think. mode',
            "/show system": "No system message was specified",
            '"""/bye"""': r"Good day\.",
        }.items():
            terminal.type(f"{typed}\n")
            terminal.expect(rf"{shown}.*>>> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
    turn = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good day."}]
    assert server.bodies("/api/create") == [
        {
            "model": "luigi",
            "from": "mario",
            "system": "Be\nkind.",
            "parameters": {"num_gpu": 1},
            "messages": [*CHAT["messages"], *turn],
        }
    ]
    first, last = server.bodies("/api/chat")
    assert first["messages"] == turn[:1] and first["keep_alive"] == "1h"
    assert (last["model"], last["messages"]) == ("toad", [{"role": "user", "content": "/bye"}])
    assert [body["model"] for body in server.bodies("/api/generate")] == ["mario", "toad"]
    assert not (tmp_path / "history").exists()


@pytest.mark.parametrize(
    ("model", "flags", "speaks", "why"),
    [
        ("pico", EngineFlags(), False, "the server has no pico"),
        ("./mario", EngineFlags(), False, "./mario is a path"),
        ("band.yaml", EngineFlags(), False, "band.yaml is a graph by file"),
        ("mario", EngineFlags(memory=10**9), False, "--memory would have to be the server's flags"),
        ("mario", EngineFlags(), True, "--speak writes what the engine says"),
        ("some/body", EngineFlags(), False, "no registry has some/body"),
    ],
)
async def test_what_only_this_process_can_do_is_done_here(
    server: OllamaServer, model: str, flags: EngineFlags, speaks: bool, why: str
) -> None:
    async with Client(parse_address(f":{server.port}")) as client:
        place = await choose(client, model, flags, speaks=speaks, draws=False, insecure=False)
    assert (place.card, place.why) == (None, why)


@pytest.mark.parametrize(("model", "draws"), [("mario", True), ("painter", False)])
async def test_pictures_are_drawn_here(server: OllamaServer, model: str, draws: bool) -> None:
    async with Client(parse_address(f":{server.port}")) as client:
        place = await choose(client, model, EngineFlags(), speaks=False, draws=draws, insecure=False)
    assert (place.card, place.why) == (None, "a picture goes into a file")


def test_a_schema_goes_out_as_an_object(server: OllamaServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert (
        tutti("run", "mario", "hi", "--format", json.dumps(schema), environment=server.host).returncode == 0
    )
    assert server.bodies("/api/chat")[0]["format"] == schema
