"""Models in several GGUF files: from a folder, an upload, the web and a hub, into the store and out of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.gguf_files import write_gguf, write_shards
from tests.hub.registry import Registry, digest_of, serve_registry
from tutti.errors import ModelfileError, ModelNotFound
from tutti.formats.gguf.header import describe, read_header
from tutti.hub.create import create, pull_gguf
from tutti.hub.model import StoredModel, read_model
from tutti.hub.modelfile import Modelfile, read_modelfile
from tutti.hub.names import parse_name
from tutti.hub.progress import Progress
from tutti.hub.pull import pull
from tutti.hub.push import push
from tutti.hub.registry import Options
from tutti.hub.store import Store

OPTIONS = Options(insecure=True, tries=1, timeout=5)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with serve_registry() as running:
        running.hub = True
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "source"
    folder.mkdir()
    return write_shards(folder)


def done(work: AsyncGenerator[Progress, None]) -> list[str]:
    async def collect() -> list[str]:
        return [progress.status async for progress in work]

    return asyncio.run(collect())


def made(store: Store, name: str, text: str, folder: Path) -> None:
    done(create(store, name, read_modelfile(text), describe, folder=folder))


def read(store: Store, name: str) -> StoredModel:
    return read_model(store, store.get(name))


def is_whole(model: StoredModel, shards: list[Path]) -> bool:
    """Whether it is the model that the files are."""
    assert model.model is not None
    header = read_header(model.model)
    stored = sorted(model.model.parent.glob("model-0000?-of-00003.gguf"))
    same = [path.read_bytes() for path in stored] == [path.read_bytes() for path in shards]
    return same and header.parameters == 2112 and header.file_type == "Q4_K_M"


def test_the_first_file_brings_the_others(store: Store, shards: list[Path]) -> None:
    made(store, "mine", f"FROM ./{shards[0].name}\nSYSTEM Hi.", shards[0].parent)
    model = read(store, "mine")
    assert is_whole(model, shards)
    assert (model.config.model_family, model.config.model_type) == ("llama", "2K")
    made(store, "child", "FROM mine\nSYSTEM Ho.", shards[0].parent)
    assert is_whole(read(store, "child"), shards)


def test_the_modelfile_that_is_shown_makes_it_again(store: Store, shards: list[Path]) -> None:
    made(store, "mine", f"FROM {shards[0]}", Path())
    made(store, "again", str(read(store, "mine").modelfile()), Path("/"))
    assert read(store, "again").entry.manifest.layers == read(store, "mine").entry.manifest.layers


def test_a_folder_of_them_is_one_model(store: Store, shards: list[Path]) -> None:
    write_gguf(shards[0].with_name("mmproj-f16.gguf"), "clip", "mmproj")
    made(store, "mine", f"FROM {shards[0].parent}", Path())
    model = read(store, "mine")
    assert is_whole(model, shards)
    assert len(model.projectors) == 1


def test_files_that_a_client_sent_are_one_model(store: Store, shards: list[Path]) -> None:
    lease = store.lease()
    files = {f"sub/{path.name}": store.put_file(path, "", lease).digest for path in reversed(shards)}
    done(create(store, "mine", Modelfile(()), describe, files=files))
    lease.release()
    assert is_whole(read(store, "mine"), shards)


def test_what_is_missing_or_foreign_is_said(store: Store, shards: list[Path]) -> None:
    third = shards[2].read_bytes()
    shards[2].unlink()
    with pytest.raises(ModelfileError, match=r"\(line 1\): 1 of the 3 files of .* are missing: tiny.*-00003"):
        made(store, "mine", f"FROM {shards[0]}", Path())
    write_gguf(shards[2])
    with pytest.raises(Exception, match="does not say that it is part 3 of 3"):
        made(store, "mine", f"FROM {shards[0]}", Path())
    shards[2].write_bytes(third)
    made(store, "mine", f"FROM {shards[0]}", Path())


def test_the_address_of_the_first_brings_the_others(
    registry: Registry, store: Store, shards: list[Path]
) -> None:
    registry.files = {f"/some/{path.name}": path.read_bytes() for path in shards}
    registry.hub = False
    first = f"{registry.url}/some/{shards[0].name}?download=true"
    done(pull_gguf(store, parse_name("mine"), first, describe, OPTIONS))
    assert is_whole(read(store, "mine"), shards)
    with pytest.raises(ModelNotFound, match="is part 2 of 3; give the first one"):
        done(pull_gguf(store, parse_name("b"), f"{registry.url}/{shards[1].name}", describe, OPTIONS))


@pytest.mark.parametrize("folder", ["", "Q4_K_M/"])
def test_a_hub_that_has_no_manifest_of_them_is_asked_for_its_files(
    registry: Registry, store: Store, shards: list[Path], folder: str
) -> None:
    base = "/me/tiny-GGUF/resolve/main"
    registry.files = {f"{base}/{folder}{path.name}": path.read_bytes() for path in shards}
    registry.files[f"{base}/mmproj-f16.gguf"] = write_gguf(
        shards[0].parent / "p.gguf", "clip", "mmproj"
    ).read_bytes()
    registry.files[f"{base}/other-Q8_0-00001-of-00002.gguf"] = b"GGUF"
    for tag in ("q4_k_m", "latest"):
        name = registry.name(f"me/tiny-GGUF:{tag}")
        statuses = done(pull(store, name, OPTIONS))
        assert statuses[-2:] == ["writing manifest", "success"]
        assert is_whole(read(store, name), shards)
        assert len(read(store, name).projectors) == 1
    served = [digest for _, path, _ in registry.seen if (digest := path.rpartition("/storage/")[2]) != path]
    assert set(served) == {digest_of(data) for path, data in registry.files.items() if "other" not in path}
    with pytest.raises(ModelNotFound, match="there: other-Q8_0, tiny-Q4_K_M"):
        done(pull(store, registry.name("me/tiny-GGUF:Q3_K"), OPTIONS))
    with pytest.raises(ModelNotFound, match="1 of 2 files are absent"):
        done(pull(store, registry.name("me/tiny-GGUF:q8_0"), OPTIONS))


def test_they_are_pushed_and_pulled_like_others(registry: Registry, store: Store, shards: list[Path]) -> None:
    name = registry.name("me/sharded")
    made(store, name, f"FROM {shards[0]}", Path())
    done(push(store, name, OPTIONS))
    other = Store(store.root.with_name("other"))
    done(pull(other, name, OPTIONS))
    assert is_whole(read(other, name), shards)
    view = read(other, name).model
    assert view is not None
    assert os.path.islink(view)
    other.delete(parse_name(name))
    assert not view.parent.exists()
