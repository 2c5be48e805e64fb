"""Creating models: of stored ones, of GGUF files, of directories; and reading back what was made."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gguf_files import write_gguf
from tests.hub.registry import Registry, digest_of, serve_registry
from tutti.errors import CheckpointError, ModelfileError, ModelNotFound, StoreError
from tutti.formats.gguf.header import describe, read_header
from tutti.hub.capabilities import capabilities
from tutti.hub.create import create, format_count, pull_gguf
from tutti.hub.model import StoredModel, read_model
from tutti.hub.modelfile import read_modelfile
from tutti.hub.names import parse_name
from tutti.hub.registry import Options
from tutti.hub.resolve import resolve_model
from tutti.hub.store import Store
from tutti.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def made(store: Store, name: str, text: str, folder: Path | None) -> list[str]:
    async def collect() -> list[str]:
        work = create(
            store, name, read_modelfile(text), describe, folder=folder, options=Options(insecure=True)
        )
        return [progress.status async for progress in work]

    return asyncio.run(collect())


def read(store: Store, name: str) -> StoredModel:
    return read_model(store, store.get(name))


WHOLE = '''
FROM ./tiny.gguf
FROM ./mmproj.gguf
ADAPTER ./lora.gguf
TEMPLATE """{{ .System }} {{ .Tools }}
{{ .Prompt }}"""
SYSTEM You are small.
PARAMETER temperature 0.5
PARAMETER stop "<a>"
PARAMETER stop "<b>"
LICENSE """MIT
and more"""
MESSAGE user hello
MESSAGE assistant hi
REQUIRES 0.1
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    write_gguf(folder / "tiny.gguf", tokenizer__chat_template="{{ messages }}")
    write_gguf(folder / "mmproj.gguf", "clip", "mmproj", seed=1)
    write_gguf(folder / "lora.gguf", "llama", "adapter", seed=2)
    return folder


def test_a_model_of_files_has_all_that_the_modelfile_says(store: Store, folder: Path) -> None:
    statuses = made(store, "mine", WHOLE, folder)
    assert statuses[0] == "gathering model components"
    assert statuses[-2:] == ["writing manifest", "success"]
    model = read(store, "mine")
    assert model.model is not None
    assert model.model.read_bytes() == (folder / "tiny.gguf").read_bytes()
    assert [path.read_bytes() for path in model.projectors] == [(folder / "mmproj.gguf").read_bytes()]
    assert [path.read_bytes() for path in model.adapters] == [(folder / "lora.gguf").read_bytes()]
    assert model.template == "{{ .System }} {{ .Tools }}\n{{ .Prompt }}"
    assert model.system == "You are small."
    assert model.parameters == {"temperature": 0.5, "stop": ["<a>", "<b>"]}
    assert model.licenses == ("MIT\nand more",)
    assert [(one.role, one.content) for one in model.messages] == [("user", "hello"), ("assistant", "hi")]
    config = model.config
    assert (config.model_format, config.model_family, config.model_type) == ("gguf", "llama", "2K")
    assert (config.file_type, config.model_families, config.requires) == ("Q4_K_M", ["llama", "clip"], "0.1")


def test_the_modelfile_that_is_shown_makes_the_same_model_again(store: Store, folder: Path) -> None:
    made(store, "mine", WHOLE, folder)
    made(store, "again", str(read(store, "mine").modelfile()), Path("/"))
    first, second = read(store, "mine"), read(store, "again")
    assert {layer.digest for layer in first.entry.manifest.layers} == {
        layer.digest for layer in second.entry.manifest.layers
    }


def test_a_model_of_a_model_shares_its_blobs_and_overrides_what_it_says(store: Store, folder: Path) -> None:
    made(store, "base", WHOLE, folder)
    made(
        store,
        "child",
        'FROM base\nSYSTEM Be large.\nTEMPLATE ""\nPARAMETER top_k 3\nLICENSE also\nMESSAGE user x\n',
        folder,
    )
    base, child = read(store, "base"), read(store, "child")
    assert child.model == base.model and child.projectors == base.projectors
    assert (child.system, child.template) == ("Be large.", "")
    assert child.parameters == {"temperature": 0.5, "stop": ["<a>", "<b>"], "top_k": 3}
    assert child.licenses == ("MIT\nand more", "also")
    assert [message.content for message in child.messages] == ["x"]
    assert child.config.file_type == "Q4_K_M"
    store.delete("base")
    assert read(store, "child").model == child.model


def test_a_directory_is_its_gguf_file_or_its_safetensors(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "lora.gguf").unlink()
    made(store, "a", f"FROM {folder}", tmp_path)
    assert read(store, "a").projectors
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "speech_tokenizer").mkdir(parents=True)
    files = {
        "config.json": b'{"model_type": "llama", "dtype": "bfloat16"}',
        "tokenizer.json": b"{}",
        "model.safetensors": b"tensors",
        "speech_tokenizer/model.safetensors": b"codec",
    }
    for name, data in {**files, "README.md": b"no", "pytorch_model.bin": b"no"}.items():
        (checkpoint / name).write_bytes(data)
    made(store, "b", "FROM ./checkpoint\nSYSTEM x", tmp_path)
    assert read(store, "b").config.model_format == "safetensors"
    shown = resolve_model("b", Settings(models=str(store.root)))
    found = {str(path.relative_to(shown)): path.read_bytes() for path in shown.rglob("*") if path.is_file()}
    assert found == files
    assert resolve_model("b", Settings(models=str(store.root))) == shown
    store.delete("b")
    assert not shown.exists()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("FROM ./nosuch.gguf", ModelfileError, r"\(line 1\): there is no file or directory"),
        ("\nFROM ./text.gguf", ModelfileError, r"\(line 2\): ./text.gguf is no GGUF file"),
        ("FROM ./empty", ModelfileError, r"\(line 1\): .* has no GGUF file, and no config.json"),
        ("FROM ./lora.gguf", ModelfileError, "is an adapter"),
        ("FROM ./mmproj.gguf", ModelfileError, "no FROM line names a model"),
        ("FROM ./tiny.gguf\nADAPTER ./nosuch", ModelfileError, r"\(line 2\): there is no file"),
        (
            "FROM ./tiny.gguf\nADAPTER ./empty",
            ModelfileError,
            "is no adapter of PEFT's: it has no adapter_config.json",
        ),
        ("FROM ./cut.gguf", CheckpointError, "is cut short, or damaged"),
        ("FROM ./tiny.gguf\nPARAMETER heat 1", ModelfileError, "unknown parameter 'heat'"),
        ("FROM @sha256:../../x", ModelfileError, "invalid digest format"),
        (f"FROM @sha256:{'0' * 64}", ModelNotFound, "is not in the store"),
        ("FROM ../../../x/y/z/w", ModelfileError, "there is no file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(
    text: str, error: type[Exception], said: str, store: Store, folder: Path
) -> None:
    (folder / "text.gguf").write_text("text")
    (folder / "empty").mkdir()
    (folder / "cut.gguf").write_bytes((folder / "tiny.gguf").read_bytes()[:200])
    with pytest.raises(error, match=said):
        made(store, "x", text, folder)
    assert store.entries() == []


def test_without_a_folder_no_file_is_read(store: Store, folder: Path) -> None:
    for source in (str(folder / "tiny.gguf"), "/etc/passwd", str(folder)):
        with pytest.raises(Exception, match="invalid model name"):
            made(store, "x", f"FROM {source}", None)
    made(store, "x", "FROM ./tiny.gguf", folder)
    digest = read(store, "x").entry.manifest.of_kind("model")[0].digest
    made(store, "y", f"FROM @{digest}", None)
    assert read(store, "y").model == read(store, "x").model


def test_a_from_that_is_not_here_is_pulled(store: Store, folder: Path) -> None:
    with serve_registry() as registry:
        registry.add("library/base", (folder / "tiny.gguf").read_bytes())
        statuses = made(store, "mine", f"FROM {registry.name('library/base')}\nSYSTEM x", folder)
    assert "pulling manifest" in statuses
    assert statuses.count("success") == 1
    assert len(store.entries()) == 2


def test_a_blob_that_is_not_what_it_should_be_is_a_typed_error(store: Store, folder: Path) -> None:
    made(store, "mine", WHOLE, folder)
    entry = store.get("mine")
    params = entry.manifest.of_kind("params")[0]
    store.blob_path(params.digest).write_bytes(b"x" * params.size)
    with pytest.raises(StoreError, match="params"):
        read(store, "mine")
    store.blob_path(params.digest).unlink()
    with pytest.raises(StoreError, match="pull the model again"):
        read(store, "mine")


def test_what_a_model_can_do_is_read_off_it(store: Store, folder: Path) -> None:
    made(store, "mine", WHOLE, folder)
    model = read(store, "mine")
    assert model.model is not None
    assert capabilities(model, read_header(model.model).metadata) == ("completion", "vision", "tools")
    made(store, "plain", 'FROM ./tiny.gguf\nTEMPLATE "{{ .Suffix }} {{ .Thinking }}"', folder)
    assert capabilities(read(store, "plain"), {}) == ("completion", "insert", "thinking")
    metadata = {"general.architecture": "bert", "bert.pooling_type": 1}
    assert capabilities(read(store, "plain"), metadata) == ("embedding",)


@pytest.mark.parametrize(
    ("number", "text"),
    [(7_615_616_512, "7.6B"), (494_032_768, "494.03M"), (2_112, "2K"), (8 * 10**9, "8B"), (70, "70")],
)
def test_numbers_of_parameters_are_written_as_ollama_does(number: int, text: str) -> None:
    assert format_count(number) == text


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        yield running


def test_a_gguf_file_at_a_web_address_becomes_a_model_and_goes_on_after_a_cut(
    store: Store, folder: Path, registry: Registry
) -> None:
    data = (folder / "tiny.gguf").read_bytes() + random.Random(3).randbytes(500_000)
    registry.files["/models/Tiny.Q4.gguf"] = data
    url = f"{registry.url}/models/Tiny.Q4.gguf"

    async def get(options: Options) -> list[str]:
        work = pull_gguf(store, parse_name("tiny"), url, describe, options)
        return [progress.status async for progress in work]

    registry.cuts = [90_000] * 5 + [0] * 100
    with pytest.raises(Exception, match="repeat the command"):
        asyncio.run(get(Options(insecure=True, part_min=100_000, part_max=100_000, pause=0, tries=2)))
    registry.cuts, sent = [], registry.sent
    statuses = asyncio.run(get(Options(insecure=True, part_min=100_000, part_max=100_000)))
    assert statuses[-1] == "success"
    assert registry.sent - sent < 300_000
    model = read(store, "tiny")
    assert model.model is not None and model.model.read_bytes() == data
    assert not list((store.root / "blobs").glob("url-*"))
    registry.files["/models/Tiny.Q4.gguf"] = (folder / "lora.gguf").read_bytes()
    with pytest.raises(ModelfileError, match="adapter"):
        asyncio.run(get(Options(insecure=True)))


CREATE = """
import asyncio, sys
from pathlib import Path
from tutti.formats.gguf.header import describe
from tutti.hub.create import create
from tutti.hub.modelfile import read_modelfile
from tutti.hub.store import Store
async def main():
    work = create(Store(Path(sys.argv[1])), "mine", read_modelfile("FROM ./tiny.gguf\\nSYSTEM x"), describe,
                  folder=Path(sys.argv[2]))
    async for progress in work:
        print(progress.status, flush=True)
print("ready", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("line", ["ready", "gathering", "creating", "writing"])
def test_a_creation_killed_in_any_phase_is_followed_by_one_that_succeeds(
    line: str, store: Store, folder: Path
) -> None:
    with (folder / "tiny.gguf").open("ab") as file:
        file.write(bytes(30_000_000))
    process = subprocess.Popen(
        [sys.executable, "-c", CREATE, str(store.root), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for shown in process.stdout:
        if shown.startswith(line):
            break
    time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    for path in (store.root / ".tmp").glob("*"):
        os.utime(path, (0, 0))
    made(store, "mine", "FROM ./tiny.gguf\nSYSTEM y", folder)
    store.collect()
    assert read(store, "mine").system == "y"
    assert not list((store.root / ".tmp").glob("*"))
    assert not list(store.locks.glob("lease-*"))


def test_a_stored_model_is_found_by_its_name_and_nearer_things_win(
    store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(models=str(store.root), hf_endpoint="http://127.0.0.1:9")
    made(store, "mine:x", "FROM ./tiny.gguf", folder)
    store.copy("mine:x", "pico")
    store.copy("mine:x", "org/name")
    blob = store.blob_path(digest_of((folder / "tiny.gguf").read_bytes()))
    assert resolve_model("mine:x", settings) == blob
    assert resolve_model("MINE:X", settings) == blob
    assert resolve_model("org/name", settings) == blob  # before the Hugging Face id
    assert resolve_model("pico", settings).name == "pico"  # the packaged one
    assert resolve_model(str(folder / "tiny.gguf"), settings) == folder / "tiny.gguf"
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/config.json").write_text(json.dumps({}))
    Path("mine/model.safetensors").write_bytes(b"")
    store.copy("mine:x", "mine")
    assert resolve_model("mine", settings) == Path("mine")  # a directory
    with pytest.raises(ModelNotFound, match="tutti pull"):
        resolve_model("other:x", settings)
