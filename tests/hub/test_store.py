"""The store: Ollama's layout, names, copies, collections, a folder of Ollama's beside it that is only read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hub.registry import CONFIG, IMAGE, digest_of
from tutti.errors import InvalidModelName, ModelNotFound, StoreError
from tutti.hub.locks import Lease
from tutti.hub.manifest import Layer, write_manifest
from tutti.hub.names import parse_name
from tutti.hub.store import Store, open_store
from tutti.settings import Settings, read_settings

HOUR = 3600


def ollamas(folder: Path, model: str, weights: bytes) -> Path:
    """A model as Ollama leaves it on the disk, without any of our code; its manifest."""
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(media_type: str, data: bytes) -> dict[str, object]:
        (blobs / digest_of(data).replace(":", "-")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": blob(CONFIG, b"{}"),
        "layers": [blob(IMAGE + "model", weights), blob(IMAGE + "system", b"You are small.")],
    }
    name, _, tag = model.partition(":")
    path = folder / "manifests/registry.ollama.ai/library" / name / (tag or "latest")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return path


@contextmanager
def leasing(store: Store) -> Iterator[Lease]:
    lease = store.lease()
    try:
        yield lease
    finally:
        lease.release()


def put(store: Store, model: str, weights: bytes) -> None:
    with leasing(store) as lease:
        layers = [store.put(weights, IMAGE + "model", lease)]
        store.write(parse_name(model), write_manifest(store.put(b"{}", CONFIG, lease), layers))


def names(store: Store) -> list[str]:
    return [str(entry.name) for entry in store.entries()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "ours")


def test_a_folder_of_ollamas_is_read_as_it_is(tmp_path: Path) -> None:
    path = ollamas(tmp_path, "tiny:1b", b"weights")
    store = Store(tmp_path)
    entry = store.get("Tiny:1B")
    assert str(entry.name) == "tiny:1b"
    assert entry.manifest.digest == digest_of(path.read_bytes())[7:]
    assert entry.manifest.size == len(b"weights") + len(b"You are small.") + 2
    assert store.blob(entry.manifest.of_kind("model")[0]).read_bytes() == b"weights"


def test_the_newest_is_listed_first_and_a_damaged_one_is_passed_over(store: Store) -> None:
    for age, model in enumerate(["new", "old", "older"]):
        put(store, model, model.encode())
        then = time.time() - age * HOUR
        os.utime(store.get(model).path, (then, then))
    broken = store.root / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir()
    broken.write_bytes(b"{")
    (store.root / "manifests/registry.ollama.ai/library/new/.DS_Store").write_bytes(b"")
    assert names(store) == ["new:latest", "old:latest", "older:latest"]
    with pytest.raises(StoreError, match="no manifest"):
        store.get("broken")


def test_case_does_not_tell_names_apart(store: Store) -> None:
    put(store, "Tiny:A", b"one")
    put(store, "tiny:a", b"two")
    assert names(store) == ["Tiny:A"]
    assert store.blob(store.get("TINY:a").manifest.of_kind("model")[0]).read_bytes() == b"two"
    store.delete("tINY:A")
    assert names(store) == []


def test_a_copy_shares_the_blobs_and_outlives_its_source(store: Store) -> None:
    put(store, "tiny", b"weights")
    store.copy("tiny", "me/copy:x")
    blobs = list((store.root / "blobs").iterdir())
    store.delete("tiny")
    assert sorted((store.root / "blobs").iterdir()) == sorted(blobs)
    assert names(store) == ["me/copy:x"]
    store.delete("me/copy:x")
    assert list((store.root / "blobs").iterdir()) == []
    assert list((store.root / "manifests").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/../../b", "/etc/passwd", "x:../../y", ""])
def test_no_operation_takes_a_name_that_leaves_the_store(name: str, store: Store) -> None:
    put(store, "tiny", b"weights")
    for operation in (
        lambda: store.get(name),
        lambda: store.copy("tiny", name),
        lambda: store.copy(name, "x"),
        lambda: store.delete(name),
    ):
        with pytest.raises(InvalidModelName):
            operation()


def test_an_absent_model_is_said(store: Store) -> None:
    for operation in (lambda: store.copy("nosuch", "x"), lambda: store.delete("nosuch")):
        with pytest.raises(ModelNotFound, match="model 'nosuch' not found"):
            operation()


def test_a_manifest_whose_blobs_are_absent_is_not_written(store: Store) -> None:
    layer = Layer(IMAGE + "model", digest_of(b"absent"), 6)
    with leasing(store) as lease, pytest.raises(StoreError, match="is not in the store"):
        store.write(parse_name("x"), write_manifest(store.put(b"{}", CONFIG, lease), [layer]))
    assert names(store) == []


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_a_collection_takes_old_orphans_and_spares_leases_fresh_blobs_and_partials(store: Store) -> None:
    put(store, "tiny", b"weights")
    with leasing(store) as lease:
        leased = aged(store.blob_path(store.put(b"leased", "", lease).digest), 2 * HOUR)
        with leasing(store) as other:
            orphan = aged(store.blob_path(store.put(b"orphan", "", other).digest), 2 * HOUR)
            fresh = store.blob_path(store.put(b"fresh", "", other).digest)
        kept = store.root / "blobs" / ("sha256-" + "0" * 64 + "-partial")
        kept.write_bytes(b"half")
        aged(kept, 24 * HOUR)
        stale = store.root / "blobs" / ("sha256-" + "1" * 64 + "-partial")
        stale.write_bytes(b"half")
        aged(stale, 9 * 24 * HOUR)
        assert store.collect() == len(b"orphan") + len(b"half")
        assert leased.exists() and fresh.exists() and kept.exists()
        assert not orphan.exists() and not stale.exists()
    assert store.collect() == len(b"leased")
    assert store.blob(store.get("tiny").manifest.of_kind("model")[0]).exists()


def test_a_damaged_manifest_stops_the_collection(store: Store) -> None:
    put(store, "tiny", b"weights")
    put(store, "other", b"other")
    store.get("tiny").path.write_bytes(b"{")
    store.delete("other")
    assert store.blob_path(digest_of(b"weights")).exists()
    assert store.blob_path(digest_of(b"other")).exists()


def test_a_temporary_file_of_a_process_that_died_goes_and_one_in_use_stays(store: Store) -> None:
    put(store, "tiny", b"weights")
    left = store.root / ".tmp" / "left"
    left.write_bytes(b"x")
    aged(left, HOUR)
    with store.temporary() as (file, path):
        file.write(b"y")
        file.flush()
        aged(path, HOUR)
        store.collect()
        assert path.exists() and not left.exists()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_ollamas_folder_is_read_and_never_written(tmp_path: Path) -> None:
    theirs = tmp_path / "ollama"
    ollamas(theirs, "tiny", b"weights")
    before, folders = snapshot(theirs), {path for path in theirs.rglob("*") if path.is_dir()}
    store = Store(tmp_path / "ours", (theirs,))
    assert [(str(entry.name), entry.foreign) for entry in store.entries()] == [("tiny:latest", True)]
    store.copy("tiny", "mine")
    assert not store.get("mine").foreign
    with pytest.raises(StoreError, match=f"only read.*ollama rm.*TUTTI_MODELS={theirs}"):
        store.delete("tiny")
    store.collect()
    assert snapshot(theirs) == before
    assert {path for path in theirs.rglob("*") if path.is_dir()} == folders
    for path in theirs.rglob("*"):  # whatever Ollama removes later, ours is whole
        if path.is_file():
            path.unlink()
    entry = store.get("mine")
    assert all(store.blob(layer).is_file() for layer in entry.manifest.blobs())


def test_a_copy_from_ollamas_folder_costs_no_disk(tmp_path: Path) -> None:
    ollamas(tmp_path / "ollama", "tiny", b"weights")
    store = Store(tmp_path / "ours", (tmp_path / "ollama",))
    store.copy("tiny", "mine")
    assert store.blob_path(digest_of(b"weights")).stat().st_nlink == 2


def test_a_name_in_both_folders_is_ours(tmp_path: Path) -> None:
    ollamas(tmp_path / "ollama", "tiny", b"theirs")
    store = Store(tmp_path / "ours", (tmp_path / "ollama",))
    put(store, "tiny", b"ours")
    assert len(store.entries()) == 1
    assert not store.get("tiny").foreign
    store.delete("tiny")
    assert store.get("tiny").foreign


def test_a_folder_that_is_named_is_read_and_written(tmp_path: Path) -> None:
    ollamas(tmp_path, "tiny", b"weights")
    for variable in ("OLLAMA_MODELS", "TUTTI_MODELS"):
        store = open_store(read_settings({variable: str(tmp_path)}))
        assert (store.root, store.foreign) == (tmp_path, ())
    both = {"OLLAMA_MODELS": "/elsewhere", "TUTTI_MODELS": str(tmp_path)}
    open_store(read_settings(both)).delete("tiny")
    assert names(Store(tmp_path)) == []


def test_without_a_name_the_store_is_in_our_own_folder(tmp_path: Path) -> None:
    store = open_store(Settings(home=str(tmp_path)))
    assert store.root == tmp_path / "models"
    assert Path("~/.ollama/models").expanduser() in store.foreign
    assert not store.root.exists()  # looking makes nothing
    Store(tmp_path / "models").entries()
    assert not store.root.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_to_us_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="TUTTI_MODELS names another folder"):
            put(Store(tmp_path / "ours"), "tiny", b"weights")
    finally:
        tmp_path.chmod(0o700)


def test_a_disk_without_room_is_said_before_anything_is_written(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no space left on device.*tutti rm.*TUTTI_MODELS"):
        store.check_space(1 << 60)
