"""What changes the store over HTTP: Ollama's official client, a real server and a real registry on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from tests.api.serving import until
from tests.api.storing import storing
from tests.gguf_files import write_gguf
from tests.hub.registry import Registry, digest_of, serve_registry
from tests.models.checkpoints import cached
from tutti.hub.locks import exclusive
from tutti.hub.model import StoredModel, read_model
from tutti.hub.store import Store

WEIGHTS = b"GGUF" + random.Random(1).randbytes(3_000_000)
NOBODY = "sha256:" + "0" * 64


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with storing(store) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    with ollama.Client(url, timeout=60) as made:
        yield made


def model(store: Store, name: str) -> StoredModel:
    return read_model(store, store.get(name))


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def nothing_is_left(store: Store) -> None:
    """Of work that has ended: no lease, no lock of a blob, no temporary file."""
    until(lambda: {path.name for path in store.locks.glob("*")} <= {"store"})
    assert list((store.root / ".tmp").glob("*")) == []


def test_a_pull_tells_what_ollama_tells(registry: Registry, store: Store, client: ollama.Client) -> None:
    digest = registry.add("library/tiny", WEIGHTS, template=b"{{ .Prompt }}")
    name = registry.name("library/tiny")
    parts = list(client.pull(name, insecure=True, stream=True))
    statuses = list(dict.fromkeys(part.status for part in parts))
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert f"pulling {digest_of(WEIGHTS)[7:19]}" in statuses[1:-3]
    weights = [part for part in parts if part.digest == digest_of(WEIGHTS)]
    assert {part.total for part in weights} == {len(WEIGHTS)}
    assert weights[-1].completed == len(WEIGHTS)
    assert store.get(name).manifest.digest == digest
    whole = client.pull(name, insecure=True)
    assert (whole.status, whole.digest) == ("success", None)
    response = httpx.post(f"{client._client.base_url}/api/pull", json={"name": name, "insecure": True})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert lines(response)[0] == {"status": "pulling manifest"}
    nothing_is_left(store)


async def test_the_asynchronous_client_does_all_of_it(registry: Registry, store: Store, url: str) -> None:
    registry.token = "secret"
    registry.add("library/tiny", WEIGHTS)
    name, copy = registry.name("library/tiny"), registry.name("me/copy:v1")
    async with ollama.AsyncClient(url, timeout=60) as client:
        statuses = [part.status async for part in await client.pull(name, insecure=True, stream=True)]
        assert statuses[-1] == "success"
        assert (await client.copy(name, copy)).status == "success"
        statuses = [part.status async for part in await client.push(copy, insecure=True, stream=True)]
        assert statuses[0] == "retrieving manifest"
        assert statuses[-2:] == ["pushing manifest", "success"]
        assert any(status.startswith(f"pushing {digest_of(WEIGHTS)[7:19]}") for status in statuses if status)
        assert registry.manifests["me/copy:v1"] == store.get(name).manifest.raw
        assert (await client.create("child", from_=copy, system="Be brief.")).status == "success"
        assert model(store, "child").system == "Be brief."
        for one in (name, copy, "child"):
            assert (await client.delete(one)).status == "success"
    assert store.entries() == []
    assert list((store.root / "blobs").iterdir()) == []
    nothing_is_left(store)


def test_what_a_registry_does_wrong_is_told_in_the_stream(
    registry: Registry, store: Store, client: ollama.Client, url: str
) -> None:
    registry.add("library/tiny", WEIGHTS)
    name = registry.name("library/tiny")

    def said(stream: bool) -> tuple[int, dict[str, Any]]:
        body = {"model": name, "insecure": True, "stream": stream}
        response = httpx.post(f"{url}/api/pull", json=body, timeout=60)
        return response.status_code, lines(response)[-1]

    absent = {"model": registry.name("library/nosuch"), "insecure": True}
    response = httpx.post(f"{url}/api/pull", json=absent)
    assert (response.status_code, lines(response)) == (
        200,
        [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}],
    )
    response = httpx.post(f"{url}/api/pull", json=absent | {"stream": False})
    assert (response.status_code, response.json()["error"]) == (
        404,
        "pull model manifest: file does not exist",
    )
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        list(client.pull(absent["model"], insecure=True, stream=True))
    registry.failures = [403]
    assert said(True)[1]["error"].startswith("unauthorized")
    registry.lies[digest_of(WEIGHTS)] = WEIGHTS[:-1] + b"?"
    status, last = said(False)
    assert (status, last["error"].split(",")[0]) == (502, "digest mismatch")
    assert "digest mismatch" in said(True)[1]["error"]
    assert store.entries() == []
    registry.lies.clear()
    registry.failures = [429]  # throttled, and cut in the middle: neither is the caller's affair
    registry.cuts = [100_000]
    assert said(False) == (200, {"status": "success"})
    assert store.blob(store.get(name).manifest.layers[0]).read_bytes() == WEIGHTS
    nothing_is_left(store)


def test_a_client_that_leaves_ends_its_pull_and_the_next_goes_on(
    registry: Registry, store: Store, client: ollama.Client, url: str
) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.holds.add("rest")
    name = registry.name("library/tiny")
    body = {"model": name, "insecure": True}
    with httpx.stream("POST", f"{url}/api/pull", json=body, timeout=60) as response:
        for line in response.iter_lines():
            if json.loads(line).get("completed", 0) > 100_000:
                break
    nothing_is_left(store)
    assert store.entries() == []
    (partial,) = (store.root / "blobs").glob("*-partial")
    assert partial.stat().st_size == len(WEIGHTS)
    registry.holds.clear()
    registry.release.set()
    sent = registry.sent
    until(lambda: registry.sent == sent)
    assert client.pull(name, insecure=True).status == "success"
    assert registry.sent - sent < len(WEIGHTS)
    assert store.blob(store.get(name).manifest.layers[0]).read_bytes() == WEIGHTS


async def test_two_clients_share_a_download_and_the_second_goes_on_when_the_first_leaves(
    registry: Registry, store: Store, url: str
) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.holds.add("rest")
    name = registry.name("library/tiny")
    async with ollama.AsyncClient(url, timeout=60) as one, ollama.AsyncClient(url, timeout=60) as two:
        first = await one.pull(name, insecure=True, stream=True)
        while not (await anext(first)).completed:
            pass
        second = await two.pull(name, insecure=True, stream=True)
        seen = [await anext(second)]
        while not seen[-1].completed:  # of the download that the first one does
            seen.append(await anext(second))
        assert registry.asked("GET", digest_of(WEIGHTS)) == 1 + 1  # the registry's, then the storage's
        await first.aclose()
        registry.holds.clear()
        registry.release.set()
        statuses = [part.status async for part in second]
    assert statuses[-1] == "success"
    assert store.blob(store.get(name).manifest.layers[0]).read_bytes() == WEIGHTS
    nothing_is_left(store)


async def test_a_transfer_that_waits_keeps_nobody_waiting(registry: Registry, store: Store, url: str) -> None:
    registry.add("library/tiny", WEIGHTS)
    body = {"model": registry.name("library/tiny"), "insecure": True, "stream": False}
    async with httpx.AsyncClient(timeout=60) as client:
        with exclusive(store.locks / "store"):  # as a long collection of another program holds it
            pull = asyncio.create_task(client.post(f"{url}/api/pull", json=body))
            for _ in range(5):
                assert (await client.get(f"{url}/api/version")).status_code == 200
            assert not pull.done()
        assert (await pull).json() == {"status": "success"}


def test_a_blob_goes_to_the_disk_as_it_comes(store: Store, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(5_000_000)
    (tmp_path / "blob").write_bytes(data)
    with storing(store, max_body=1000) as url, ollama.Client(url, timeout=60) as client:
        place = f"{url}/api/blobs/{digest_of(data)}"
        assert httpx.head(place).status_code == 404
        assert client.create_blob(tmp_path / "blob") == digest_of(data)
        assert store.blob_path(digest_of(data)).read_bytes() == data
        assert httpx.head(place).status_code == 200
        assert httpx.post(place, content=data).status_code == 200  # nothing is read of it
        small = httpx.post(f"{url}/api/blobs/{digest_of(b'small')}", content=b"small")
        assert (small.status_code, small.content) == (201, b"")
        assert httpx.post(f"{url}/api/blobs/{digest_of(b'')}", content=b"").status_code == 201
    nothing_is_left(store)


def test_a_blob_that_is_wrong_leaves_nothing(store: Store, url: str) -> None:
    data = random.Random(2).randbytes(3_000_000)
    response = httpx.post(f"{url}/api/blobs/{NOBODY}", content=data)
    assert response.status_code == 400
    assert response.json() == {"error": f'digest mismatch, expected "{NOBODY}", got "{digest_of(data)}"'}
    for digest in ("sha256:..", "sha256:" + "0" * 63, "md5:" + "0" * 64, "..", "%2e%2e%2fx", NOBODY.upper()):
        for method in ("POST", "HEAD"):
            response = httpx.request(method, f"{url}/api/blobs/{digest}", content=b"x")
            assert response.status_code in (400, 404, 405)
            if response.status_code == 400 and method == "POST":
                assert response.json() == {"error": "invalid digest format"}
    assert list((store.root / "blobs").glob("*")) == []
    nothing_is_left(store)


async def test_an_upload_that_is_cut_leaves_nothing(store: Store, url: str) -> None:
    data = random.Random(2).randbytes(3_000_000)
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/blobs/{digest_of(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[:2_000_000])
    await writer.drain()
    await asyncio.to_thread(until, lambda: list((store.root / ".tmp").glob("*")) != [])
    writer.close()
    await asyncio.to_thread(until, lambda: list((store.root / ".tmp").glob("*")) == [])
    assert list((store.root / "blobs").glob("*")) == []


async def test_two_clients_may_send_the_same_blob(store: Store, url: str) -> None:
    data = random.Random(2).randbytes(2_000_000)
    async with httpx.AsyncClient(timeout=60) as client:
        place = f"{url}/api/blobs/{digest_of(data)}"
        both = await asyncio.gather(client.post(place, content=data), client.post(place, content=data))
    assert {response.status_code for response in both} <= {200, 201}
    assert store.blob_path(digest_of(data)).read_bytes() == data
    nothing_is_left(store)


def test_a_model_is_made_of_files_that_were_sent(store: Store, client: ollama.Client, tmp_path: Path) -> None:
    files = {
        "tiny.gguf": write_gguf(tmp_path / "tiny.gguf", tokenizer__chat_template="{{ messages }}"),
        "mmproj.gguf": write_gguf(tmp_path / "mmproj.gguf", "clip", "mmproj", seed=1),
    }
    lora = write_gguf(tmp_path / "lora.gguf", "llama", "adapter", seed=2)
    parts = list(
        client.create(
            "mine:v2",
            files={name: client.create_blob(path) for name, path in files.items()},
            adapters={"lora.gguf": client.create_blob(lora)},
            template="{{ .Prompt }}",
            license=["MIT", "and more"],
            system="You are small.",
            parameters={"temperature": 1, "top_k": 3.0, "stop": ["<a>", "<b>"], "use_mmap": False},
            messages=[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
            stream=True,
        )
    )
    statuses = [part.status or "" for part in parts]
    assert statuses[0] == "parsing GGUF"
    assert statuses[-2:] == ["writing manifest", "success"]
    words = [status.rsplit(" ", 1)[0] for status in statuses[1:-2]]
    assert words[:3] == ["using existing layer"] * 3
    assert set(words[3:]) == {"creating new layer"}
    made = model(store, "mine:v2")
    assert made.model is not None and made.model.read_bytes() == files["tiny.gguf"].read_bytes()
    assert [path.read_bytes() for path in made.projectors] == [files["mmproj.gguf"].read_bytes()]
    assert [path.read_bytes() for path in made.adapters] == [lora.read_bytes()]
    assert (made.template, made.system, made.licenses) == (
        "{{ .Prompt }}",
        "You are small.",
        ("MIT", "and more"),
    )
    assert made.parameters == {"temperature": 1.0, "top_k": 3, "stop": ["<a>", "<b>"], "use_mmap": False}
    assert [(one.role, one.content) for one in made.messages] == [("user", "hello"), ("assistant", "hi")]
    client.create("child", from_="mine:v2", system="Be large.", license="also")
    child = model(store, "child")
    assert child.model == made.model
    assert (child.system, child.licenses) == ("Be large.", ("MIT", "and more", "also"))
    nothing_is_left(store)


def test_safetensors_are_kept_with_their_names_or_made_smaller(store: Store, client: ollama.Client) -> None:
    checkpoint = cached("qwen3")
    files = {
        str(path.relative_to(checkpoint)): client.create_blob(path)
        for path in checkpoint.rglob("*")
        if path.is_file()
    }
    assert client.create("plain", files=files).status == "success"
    named = {layer.name: layer.digest for layer in store.get("plain").manifest.layers}
    assert named["config.json"] == files["config.json"]
    assert model(store, "plain").config.model_format == "safetensors"
    parts = list(client.create("small", from_="plain", quantize="q8_0", stream=True))
    steps = [part for part in parts if (part.status or "").startswith("quantizing ")]
    assert steps[0].status == "quantizing float32 model to Q8_0"
    assert steps[-1].completed == steps[-1].total
    small = model(store, "small")
    assert (small.config.model_format, small.config.file_type) == ("gguf", "Q8_0")
    assert small.model is not None and small.model.read_bytes().startswith(b"GGUF")
    with pytest.raises(ollama.ResponseError, match="there is no type 'q4_K_X'") as refused:
        client.create("small", from_="plain", quantize="q4_K_X")
    assert refused.value.status_code == 400
    nothing_is_left(store)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "pull", b"", 400, "missing request body"),
        ("POST", "pull", {}, 400, "invalid model name"),
        ("POST", "pull", {"model": "../../x"}, 400, "invalid model name"),
        ("POST", "pull", {"model": "http://127.0.0.1:9/a/b", "stream": False}, 400, "insecure protocol http"),
        ("POST", "push", {}, 400, "model is required"),
        ("POST", "push", {"model": "nosuch", "stream": False}, 404, "model 'nosuch:latest' not found"),
        ("POST", "push", {"name": "a/../b"}, 400, "invalid model name"),
        ("POST", "create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("POST", "create", {"from": "y"}, 400, "invalid model name"),
        ("POST", "create", {"model": "../x", "from": "y"}, 400, "invalid model name"),
        ("POST", "create", {"model": "x", "from": "/etc/passwd"}, 400, "invalid model name"),
        ("POST", "create", {"model": "x", "modelfile": "FROM ./x.gguf"}, 400, "invalid model name"),
        ("POST", "create", {"model": "x", "modelfile": "FROMM y"}, 400, "(line 1): command must be one of"),
        ("POST", "create", {"model": "x", "files": {"a": NOBODY}}, 404, f"blob {NOBODY} is not in the store"),
        ("POST", "create", {"model": "x", "files": {"a": "../b"}}, 400, "invalid digest format"),
        (
            "POST",
            "create",
            {"model": "x", "files": {"../a": NOBODY}},
            400,
            "file path must be relative: ../a",
        ),
        ("POST", "create", {"model": "x", "files": {"/a": NOBODY}}, 400, "file path must be relative: /a"),
        ("POST", "create", {"model": "x", "from": "y", "info": {"a": 1}}, 400, "info is not supported"),
        ("POST", "create", {"model": "x", "from": "y", "parameters": {"heat": 1}}, 400, "unknown parameter"),
        ("POST", "create", {"model": "x", "from": "y", "parameters": {"top_k": {}}}, 400, "parameters.top_k"),
        ("POST", "create", {"model": "x", "from": "y", "messages": [{"role": "z"}]}, 400, "messages[0]"),
        ("POST", "copy", b"", 400, "missing request body"),
        ("POST", "copy", {"source": "..", "destination": "x"}, 400, 'source ".." is invalid'),
        ("POST", "copy", {"source": "x", "destination": "../x"}, 400, 'destination "../x" is invalid'),
        ("POST", "copy", {"source": "nosuch", "destination": "x"}, 404, 'model "nosuch" not found'),
        ("DELETE", "delete", b"", 400, "missing request body"),
        ("DELETE", "delete", {"name": "nosuch"}, 404, "model 'nosuch' not found"),
        ("DELETE", "delete", {"model": "a/../../b"}, 400, 'name "a/../../b" is invalid'),
        ("GET", "delete", b"", 405, "GET /api/delete"),
    ],
)
def test_an_error_has_ollamas_words(
    url: str, store: Store, method: str, path: str, body: Any, status: int, words: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.request(method, f"{url}/api/{path}", content=content, timeout=60)
    assert response.json()["error"].startswith(words)
    assert response.status_code == status
    assert store.entries() == []
    nothing_is_left(store)


def test_what_lies_in_ollamas_folder_is_used_and_never_removed(tmp_path: Path) -> None:
    theirs = Store(tmp_path / "ollama")
    with storing(theirs) as url, ollama.Client(url, timeout=60) as client:
        digest = client.create_blob(write_gguf(tmp_path / "tiny.gguf"))
        client.create("theirs", files={"tiny.gguf": digest})
    store = Store(tmp_path / "models", (tmp_path / "ollama",))
    with storing(store) as url, ollama.Client(url, timeout=60) as client:
        with pytest.raises(ollama.ResponseError, match="only read") as refused:
            client.delete("theirs")
        assert refused.value.status_code == 403
        assert httpx.head(f"{url}/api/blobs/{digest}").status_code == 200
        client.create("ours", files={"tiny.gguf": digest})
        assert store.blob_path(digest).is_file()
        client.delete("ours")
    assert theirs.get("theirs")


def test_nothing_changes_without_the_key(store: Store) -> None:
    data = b"x" * 2_000_000
    with storing(store, keys=("secret",)) as url:
        for method, path in (
            ("POST", "pull"), ("POST", "push"), ("POST", "create"), ("POST", "copy"), ("DELETE", "delete"),
            ("POST", f"blobs/{digest_of(data)}"), ("HEAD", f"blobs/{digest_of(data)}"),
        ):  # fmt: skip
            response = httpx.request(method, f"{url}/api/{path}", content=data)
            assert response.status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert httpx.post(f"{url}/api/blobs/{digest_of(data)}", content=data, headers=key).status_code == 201
    assert [path.name for path in (store.root / "blobs").iterdir()] == [
        f"sha256-{hashlib.sha256(data).hexdigest()}"
    ]


def test_a_server_without_a_store_says_so() -> None:
    with storing(None) as url:
        response = httpx.post(f"{url}/api/pull", json={"model": "x"})
        assert (response.status_code, response.json()) == (
            404,
            {"error": "this server has no store of models"},
        )
