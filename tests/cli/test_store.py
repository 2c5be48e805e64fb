"""The commands of the store as a person types them: tables, messages, exit codes, bars."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal, tutti
from tests.gguf_files import write_gguf
from tests.hub.registry import Registry, serve_registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """An environment whose store is empty and whose home has no Ollama."""
    return {"TUTTI_MODELS": str(tmp_path / "models"), "HOME": str(tmp_path)}


def weights(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "weights.gguf", tokenizer__chat_template="{{ tools }}").read_bytes()


def ok(*arguments: str, environment: Mapping[str, str], stdin: str | None = None) -> str:
    result = tutti(*arguments, environment=environment, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def failed(*arguments: str, environment: Mapping[str, str]) -> str:
    result = tutti(*arguments, environment=environment)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_a_models_life_from_pull_to_push_and_rm(
    registry: Registry, place: dict[str, str], tmp_path: Path
) -> None:
    digest = registry.add("library/tiny", weights(tmp_path), template=b"{{ .Prompt }}", system=b"Be small.")
    name = registry.name("library/tiny")
    result = tutti("pull", name, environment=place)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: insecure protocol http; allow it by --insecure, or by insecure in a request"
    )
    result = tutti("pull", name, "--insecure", environment=place)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == "pulling manifest"
    assert re.fullmatch(r"pulling [0-9a-f]{12} \(.* KB\)", lines[1])
    assert lines[-3:] == ["verifying sha256 digest", "writing manifest", "success"]

    assert ok("cp", name, "tiny", environment=place) == f"copied '{name}' to 'tiny'\n"
    table = ok("list", environment=place).splitlines()
    assert re.fullmatch(r"NAME +ID +SIZE +MODIFIED", table[0])
    assert re.fullmatch(rf"tiny:latest +{digest[:12]}    \d+ KB    (Less than a|\d+) seconds? ago", table[1])
    assert ok("ls", "TIN", environment=place).splitlines()[1].startswith("tiny:latest")
    assert len(ok("ls", "nosuch", environment=place).splitlines()) == 1

    model = registry.name("me/copy:v1")
    ok("cp", "tiny", model, environment=place)
    result = tutti("push", model, "--insecure", environment=place)
    assert result.returncode == 0, result.stderr
    assert "pushing manifest" in result.stderr
    assert "me/copy:v1" in registry.manifests

    assert ok("rm", "tiny", model, environment=place) == f"deleted 'tiny'\ndeleted '{model}'\n"
    ok("rm", name, environment=place)
    assert len(ok("list", environment=place).splitlines()) == 1
    assert list((tmp_path / "models/blobs").iterdir()) == []


def test_show_has_ollamas_sections(place: dict[str, str], tmp_path: Path) -> None:
    weights(tmp_path)
    (tmp_path / "Modelfile").write_text(
        'FROM ./weights.gguf\nSYSTEM """one\ntwo\nthree"""\nPARAMETER temperature 0.7\nPARAMETER stop "<a>"\n'
        'LICENSE """MIT License\n\nmore\nand more"""\nTEMPLATE "{{ .Tools }}"\n'
    )
    result = tutti("create", "mine", "-f", str(tmp_path / "Modelfile"), environment=place)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "success"
    assert ok("show", "mine", environment=place) == (
        "  Model\n"
        "    architecture        llama\n"
        "    parameters          2K\n"
        "    context length      2048\n"
        "    embedding length    32\n"
        "    quantization        Q4_K_M\n"
        "\n"
        "  Capabilities\n"
        "    completion\n"
        "    tools\n"
        "\n"
        "  Parameters\n"
        '    stop           "<a>"\n'
        "    temperature    0.7\n"
        "\n"
        "  System\n"
        "    one\n"
        "    two\n"
        "    ...\n"
        "\n"
        "  License\n"
        "    MIT License\n"
        "    more\n"
        "    ...\n"
        "\n"
    )
    verbose = ok("show", "mine", "-v", environment=place)
    assert "  Metadata\n" in verbose and "(100 x string)" in verbose
    assert re.search(r"token_embd\.weight +F32 +\[32, 64\]", verbose)
    assert ok("show", "mine", "--system", environment=place) == "one\ntwo\nthree\n"
    assert ok("show", "mine", "--template", environment=place) == "{{ .Tools }}\n"
    assert ok("show", "mine", "--license", environment=place).startswith("MIT License\n\nmore")
    parameters = ok("show", "mine", "--parameters", environment=place)
    assert parameters == 'stop                           "<a>"\ntemperature                    0.7\n'
    modelfile = ok("show", "mine", "--modelfile", environment=place)
    assert modelfile.startswith('# Modelfile generated by "tutti show"\n')
    ok("create", "again", "-f", "-", environment=place, stdin=modelfile)
    assert ok("show", "again", environment=place) == ok("show", "mine", environment=place)


def test_errors_are_ollamas(registry: Registry, place: dict[str, str], tmp_path: Path) -> None:
    assert failed("show", "nosuch", environment=place) == "Error: model 'nosuch' not found"
    assert failed("rm", "nosuch", environment=place) == "Error: model 'nosuch' not found"
    assert failed("cp", "nosuch", "x", environment=place) == "Error: model 'nosuch' not found"
    assert failed("pull", "../x", environment=place) == "Error: invalid model name"
    absent = failed("pull", registry.name("library/nosuch"), "--insecure", environment=place)
    assert absent == "Error: pull model manifest: file does not exist"
    assert failed("show", "x", "--system", "--license", environment=place).startswith("Error: only one of")
    wrong = failed("create", "x", "-f", str(tmp_path / "nosuch"), environment=place)
    assert wrong == "Error: specified Modelfile wasn't found"
    (tmp_path / "Modelfile").write_text("FROM x\nFORM y\n")
    wrong = failed("create", "x", "-f", str(tmp_path / "Modelfile"), environment=place)
    assert wrong.startswith('Error: (line 2): command must be one of "from"')


def test_a_file_and_an_address_of_one_become_models(
    registry: Registry, place: dict[str, str], tmp_path: Path
) -> None:
    registry.files["/some/Tiny-Q4.gguf"] = weights(tmp_path)
    assert tutti("pull", str(tmp_path / "weights.gguf"), environment=place).returncode == 0
    url = f"{registry.url}/some/Tiny-Q4.gguf"
    assert "insecure protocol http" in failed("pull", url, environment=place)
    assert tutti("pull", url, "--insecure", environment=place).returncode == 0
    assert tutti("pull", url, "--insecure", "--as", "other:x", environment=place).returncode == 0
    listed = [line.split()[0] for line in ok("list", environment=place).splitlines()[1:]]
    assert sorted(listed) == ["other:x", "tiny-q4:latest", "weights:latest"]


def test_ollamas_folder_is_listed_and_kept(registry: Registry, place: dict[str, str], tmp_path: Path) -> None:
    registry.add("library/tiny", weights(tmp_path))
    theirs = {"OLLAMA_MODELS": str(tmp_path / ".ollama/models"), "HOME": str(tmp_path)}
    assert tutti("pull", registry.name("library/tiny"), "--insecure", environment=theirs).returncode == 0
    plain = theirs | {"OLLAMA_MODELS": ""}
    assert "library/tiny" in ok("list", environment=plain)
    assert "only read" in failed("rm", registry.name("library/tiny"), environment=plain)
    ok("cp", registry.name("library/tiny"), "mine", environment=plain)
    assert (tmp_path / ".tutti/models/manifests/registry.ollama.ai/library/mine/latest").is_file()
    assert not list((tmp_path / ".ollama").rglob("mine"))


def test_a_terminal_shows_bars_and_ctrl_c_keeps_what_came(
    registry: Registry, place: dict[str, str], tmp_path: Path
) -> None:
    data = weights(tmp_path) + random.Random(5).randbytes(3_000_000)
    registry.add("library/tiny", data)
    registry.rate = 1_000_000
    with Terminal("pull", registry.name("library/tiny"), "--insecure", environment=place) as terminal:
        terminal.expect("pulling manifest")
        terminal.expect(r"pulling [0-9a-f]{12}: +[1-9]\d?% ▕█* *▏ [\d.]+ [KM]B/3.0 MB +[\d.]+ [KM]B/s +\ds")
        terminal.interrupt()
        assert terminal.wait() == 130
    sent, registry.rate = registry.sent, 0.0
    assert 0 < sent < len(data)
    with Terminal("pull", registry.name("library/tiny"), "--insecure", environment=place) as terminal:
        terminal.expect(r"pulling [0-9a-f]{12}: 100% ▕█+▏")
        terminal.expect("success")
        assert terminal.wait() == 0
    assert registry.sent < len(data) + 300_000


def test_a_killed_pull_goes_on(registry: Registry, place: dict[str, str], tmp_path: Path) -> None:
    data = weights(tmp_path) + random.Random(6).randbytes(2_000_000)
    registry.add("library/tiny", data)
    registry.rate = 1_000_000
    with Terminal("pull", registry.name("library/tiny"), "--insecure", environment=place) as terminal:
        terminal.expect(r"[3-9]\d%")
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait(10)
    registry.rate, sent = 0.0, registry.sent
    assert tutti("pull", registry.name("library/tiny"), "--insecure", environment=place).returncode == 0
    assert registry.sent - sent < len(data) * 0.9


@pytest.mark.parametrize("command", ["pull", "push", "list", "ls", "show", "cp", "rm", "create"])
def test_every_command_has_help(command: str) -> None:
    result = tutti(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"Usage: tutti {command}")
