"""Pulling over real HTTP: tokens, redirects, ranges, cuts, lies, kills; nothing is fetched twice or written outside."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.registry import CONFIG, IMAGE, Registry, digest_of, serve_registry
from tutti.errors import InvalidRequest, ModelNotFound, StoreError, TransferError, TuttiError, Unauthorized
from tutti.hub.progress import Progress
from tutti.hub.pull import pull
from tutti.hub.registry import Options
from tutti.hub.store import Store

OPTIONS = Options(insecure=True, part_min=100_000, part_max=200_000, pause=0.01, timeout=5)
WEIGHTS = b"GGUF" + random.Random(1).randbytes(1_500_000)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def pulled(store: Store, name: str, options: Options = OPTIONS) -> list[Progress]:
    async def collect() -> list[Progress]:
        return [progress async for progress in pull(store, name, options)]

    return asyncio.run(collect())


def weights_of(store: Store, name: str) -> bytes:
    return store.blob(store.get(name).manifest.of_kind("model")[0]).read_bytes()


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_model_comes_whole_and_its_manifest_byte_for_byte(registry: Registry, store: Store) -> None:
    digest = registry.add("library/tiny", WEIGHTS, template=b"{{ .Prompt }}", license=b"free")
    said = pulled(store, registry.name("library/tiny"))
    entry = store.get(registry.name("library/tiny"))
    assert entry.manifest.digest == digest
    assert entry.path.read_bytes() == registry.manifests["library/tiny:latest"]
    assert entry.path.relative_to(store.root) == Path(
        f"manifests/127.0.0.1:{registry.port}/library/tiny/latest"
    )
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    statuses = list(dict.fromkeys(progress.status for progress in said))
    layers = entry.manifest.blobs()
    assert statuses[0] == "pulling manifest"
    assert set(statuses[1:-3]) == {f"pulling {layer.digest[7:19]}" for layer in layers}
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    last = {progress.digest: progress for progress in said if progress.digest}
    assert all(progress.completed == progress.total for progress in last.values())
    blobs = {f"blobs/{layer.digest.replace(':', '-')}" for layer in entry.manifest.blobs()}
    assert {file for file in everything(store.root) if file.startswith("blobs")} == blobs


def test_parts_are_fetched_at_once_and_follow_redirects_without_the_token(
    registry: Registry, store: Store
) -> None:
    registry.token = "secret"
    registry.add("ns/tiny:x", WEIGHTS)
    pulled(store, registry.name("ns/tiny:x"))
    assert registry.asked("GET", "/token") >= 1
    storage = [
        headers for _, path, headers in registry.seen if path.startswith(f"/storage/{digest_of(WEIGHTS)}")
    ]
    assert len(storage) == 16
    assert all("authorization" not in headers for headers in storage)
    assert {headers["host"].split(":")[0] for headers in storage} == {"localhost"}
    assert registry.sent < len(WEIGHTS) + 1000


def test_a_registry_without_redirects_and_one_without_ranges_will_do(
    registry: Registry, store: Store
) -> None:
    registry.redirects = False
    registry.add("library/a", WEIGHTS)
    pulled(store, registry.name("library/a"))
    registry.ranges, other = False, WEIGHTS[::-1]
    registry.add("library/b", other)
    pulled(store, registry.name("library/b"))
    assert weights_of(store, registry.name("library/b")) == other
    registry.add("library/c", other[1:])
    registry.cuts = [400_000, 700_000]
    pulled(store, registry.name("library/c"), Options(insecure=True, pause=0.01))
    assert weights_of(store, registry.name("library/c")) == other[1:]


def test_a_cut_in_the_middle_of_a_body_costs_nothing_but_the_rest(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.cuts = [70_000, 30_000, 90_000, 1, 5000, 60_000]
    pulled(store, registry.name("library/tiny"))
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    assert registry.sent < len(WEIGHTS) + 1000


def test_a_registry_that_is_out_of_order_is_asked_again(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.failures = [503, 500, 429, 502]
    pulled(store, registry.name("library/tiny"))
    registry.failures = [500] * 6
    with pytest.raises(TransferError, match=r"max retries exceeded: .* answers 500"):
        pulled(store, registry.name("library/tiny"))


def test_what_a_pull_that_failed_fetched_is_not_fetched_again(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.cuts = [80_000] * 15 + [0] * 15 * 6
    with pytest.raises(TransferError, match="repeat the command"):
        pulled(
            store, registry.name("library/tiny"), Options(insecure=True, part_min=100_000, pause=0, tries=3)
        )
    assert store.find(_name(registry)) is None
    before, registry.cuts = registry.sent, []
    said = pulled(store, registry.name("library/tiny"), Options(insecure=True, part_min=100_000, pause=0))
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    assert before > 0
    assert registry.sent < len(WEIGHTS) + 1000
    assert next(one for one in said if one.digest == digest_of(WEIGHTS)).completed >= before - 1000


def test_content_that_is_not_its_digest_is_refused_and_forgotten(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.lies[digest_of(WEIGHTS)] = WEIGHTS[:-1] + b"!"
    with pytest.raises(TransferError, match="digest mismatch, file must be downloaded again"):
        pulled(store, registry.name("library/tiny"))
    assert not any(digest_of(WEIGHTS)[7:] in file for file in everything(store.root))
    registry.lies.clear()
    pulled(store, registry.name("library/tiny"))


def test_a_partial_that_went_bad_is_downloaded_anew(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.cuts = [80_000] * 15 + [0] * 200
    with pytest.raises(TransferError):
        pulled(
            store, registry.name("library/tiny"), Options(insecure=True, part_min=100_000, pause=0, tries=2)
        )
    registry.cuts = []
    partial = store.blob_path(digest_of(WEIGHTS)).with_name(
        store.blob_path(digest_of(WEIGHTS)).name + "-partial"
    )
    with partial.open("r+b") as file:
        file.write(b"damaged by a power cut")
    pulled(store, registry.name("library/tiny"))
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS


def test_an_absent_model_and_an_absent_blob_are_said(registry: Registry, store: Store) -> None:
    with pytest.raises(ModelNotFound, match="pull model manifest: file does not exist"):
        pulled(store, registry.name("library/nosuch"))
    registry.add("library/tiny", WEIGHTS)
    del registry.blobs[digest_of(WEIGHTS)]
    with pytest.raises(ModelNotFound, match="does not exist there"):
        pulled(store, registry.name("library/tiny"))


def test_a_registry_that_wants_what_we_have_not_is_unauthorized(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.failures = [401]
    with pytest.raises(Unauthorized, match="credentials of a kind"):
        pulled(store, registry.name("library/tiny"))


def test_plain_http_is_refused_unless_allowed(registry: Registry, store: Store) -> None:
    with pytest.raises(InvalidRequest, match="insecure protocol http"):
        pulled(store, registry.name("library/tiny"), Options())
    assert registry.seen == []


def test_an_unreachable_registry_is_named(store: Store) -> None:
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):
        pulled(store, "http://127.0.0.1:9/library/x", Options(insecure=True, tries=1))


def test_what_is_here_already_is_not_fetched(registry: Registry, store: Store) -> None:
    registry.add("library/a", WEIGHTS, template=b"A")
    registry.add("library/b", WEIGHTS, template=b"B")
    pulled(store, registry.name("library/a"))
    sent = registry.sent
    pulled(store, registry.name("library/b"))
    assert registry.sent == sent + 1


def test_a_newer_version_takes_the_name_and_the_old_blobs_go(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    pulled(store, registry.name("library/tiny"))
    newer = WEIGHTS + b"newer"
    registry.add("library/tiny", newer)
    pulled(store, registry.name("library/tiny"))
    assert weights_of(store, registry.name("library/tiny")) == newer
    assert not store.blob_path(digest_of(WEIGHTS)).exists()


EVIL = {
    "a path as a digest": [{"mediaType": IMAGE + "model", "digest": "sha256:../../../../evil", "size": 4}],
    "a digest that is too long": [{"mediaType": IMAGE + "model", "digest": "sha256:" + "0" * 65, "size": 4}],
    "another hash": [{"mediaType": IMAGE + "model", "digest": "md5:" + "0" * 32, "size": 4}],
    "a negative size": [{"mediaType": IMAGE + "model", "digest": "sha256:" + "0" * 64, "size": -1}],
    "a size beyond all disks": [
        {"mediaType": IMAGE + "model", "digest": "sha256:" + "0" * 64, "size": 1 << 62}
    ],
    "a size beyond this disk": [
        {"mediaType": IMAGE + "model", "digest": "sha256:" + "0" * 64, "size": 1 << 43}
    ],
    "a layer's name that climbs": [
        {"mediaType": IMAGE + "tensor", "digest": "sha256:" + "0" * 64, "size": 4, "name": "../../evil"}
    ],
    "a layer's name from the root": [
        {"mediaType": IMAGE + "tensor", "digest": "sha256:" + "0" * 64, "size": 4, "name": "/tmp/evil"}
    ],
    "no layers": [],
    "layers of another form": ["sha256:" + "0" * 64],
}


@pytest.mark.parametrize("case", EVIL)
def test_a_manifest_that_lies_writes_nothing_outside(
    case: str, registry: Registry, store: Store, tmp_path: Path
) -> None:
    config = {"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2}
    registry.blobs[digest_of(b"{}")] = b"{}"
    raw = json.dumps({"schemaVersion": 2, "config": config, "layers": EVIL[case]}).encode()
    registry.add_manifest("library/evil", raw)
    with pytest.raises(StoreError):
        pulled(store, registry.name("library/evil"))
    assert all(file.startswith("models/") for file in everything(tmp_path))
    assert not any("evil" in file for file in everything(tmp_path))
    assert store.entries() == []


@pytest.mark.parametrize("raw", [b"", b"not json", b"[" * 100_000, b"{}", b'{"layers": 7}', b"x" * (9 << 20)])
def test_what_is_no_manifest_is_refused(raw: bytes, registry: Registry, store: Store) -> None:
    registry.add_manifest("library/evil", raw)
    with pytest.raises(TuttiError):
        pulled(store, registry.name("library/evil"))
    assert store.entries() == []


def test_a_longer_body_than_the_manifest_says_is_cut_off(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.lies[digest_of(WEIGHTS)] = WEIGHTS + b"more" * 100_000
    registry.ranges = False
    pulled(store, registry.name("library/tiny"))
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS


def test_two_pulls_in_one_process_share_the_download(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.rate = 200_000

    async def both() -> list[list[Progress]]:
        async def one() -> list[Progress]:
            return [progress async for progress in pull(store, registry.name("library/tiny"), OPTIONS)]

        return list(await asyncio.gather(one(), one()))

    for said in asyncio.run(both()):
        assert said[-1].status == "success"
        assert any(0 < one.completed < one.total for one in said)
    assert registry.sent < len(WEIGHTS) + 1000


def test_a_pull_that_is_given_up_leaves_its_bytes_to_the_one_that_waits(
    registry: Registry, store: Store
) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.rate = 400_000

    async def first() -> None:
        async for progress in pull(store, registry.name("library/tiny"), OPTIONS):
            if progress.completed > 300_000:
                return

    async def both() -> None:
        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        async for _ in pull(store, registry.name("library/tiny"), OPTIONS):
            pass
        await waiting

    asyncio.run(both())
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    assert registry.sent < len(WEIGHTS) * 1.6  # what was on the way when the first left is lost


PULL = """
import asyncio, sys
from pathlib import Path
from tutti.hub.pull import pull
from tutti.hub.registry import Options
from tutti.hub.store import Store
async def main():
    options = Options(insecure=True, part_min=100_000, part_max=200_000, pause=0.05)
    async for progress in pull(Store(Path(sys.argv[1])), sys.argv[2], options):
        print(progress.status, progress.completed, flush=True)
asyncio.run(main())
"""


def started(store: Store, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PULL, str(store.root), name], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_share_one_download(registry: Registry, store: Store) -> None:
    registry.add("library/tiny", WEIGHTS)
    registry.rate = 500_000
    processes = [started(store, registry.name("library/tiny")) for _ in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.splitlines()[-1].startswith("success")
    assert registry.sent < len(WEIGHTS) + 1000
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS


@pytest.mark.parametrize("phase", ["manifest", "blob", "rest"])
def test_a_killed_pull_in_each_phase_is_followed_by_one_that_succeeds(
    phase: str, registry: Registry, store: Store
) -> None:
    registry.add("library/tiny", WEIGHTS, template=b"T")
    registry.holds = {phase}
    process = started(store, registry.name("library/tiny"))
    assert registry.holding.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    registry.holds = set()
    registry.release.set()
    assert store.entries() == []
    assert pulled(store, registry.name("library/tiny"))[-1].status == "success"
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    assert not list(store.locks.glob("lease-*")) or store.collect() == 0


@pytest.mark.parametrize("status", ["verifying", "writing"])
def test_a_pull_killed_at_its_end_is_followed_by_one_that_succeeds(
    status: str, registry: Registry, store: Store
) -> None:
    registry.add("library/tiny", WEIGHTS * 6)
    process = started(store, registry.name("library/tiny"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(status):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    sent = registry.sent
    assert pulled(store, registry.name("library/tiny"))[-1].status == "success"
    assert hashlib.sha256(weights_of(store, registry.name("library/tiny"))).hexdigest() == (
        hashlib.sha256(WEIGHTS * 6).hexdigest()
    )
    assert registry.sent < sent + 1000


def test_a_collection_spares_what_another_process_is_pulling(registry: Registry, store: Store) -> None:
    first, second = b"GGUF the first" * 1000, b"GGUF the second"
    registry.add("library/old", b"GGUF old")
    pulled(store, registry.name("library/old"))
    config = digest_of(
        json.dumps({"model_format": "gguf", "model_family": "tiny", "model_type": "1M"}).encode()
    )
    registry.add("library/tiny", first, projector=second)
    registry.rate = 20_000  # the large one takes a while; the small one is here long before
    process = started(store, registry.name("library/tiny"))
    _until(lambda: store.blob_path(digest_of(second)).exists())
    store.delete(registry.name("library/old"))
    assert store.blob_path(digest_of(second)).exists()
    assert store.blob_path(config).exists()
    assert not store.blob_path(digest_of(b"GGUF old")).exists()
    assert store.find(_name(registry)) is None, "the pull was over too soon to show anything"
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert weights_of(store, registry.name("library/tiny")) == first


def test_a_full_disk_keeps_what_came_and_says_what_to_do(registry: Registry, tmp_path: Path) -> None:
    registry.add("library/tiny", WEIGHTS)
    root = tmp_path / "models"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))"
    full = PULL.replace("import asyncio, sys", f"import asyncio, sys, errno, os\n{limit}\n" + _FULL)
    command = [sys.executable, "-c", full, str(root), registry.name("library/tiny")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "StoreError: no space left on device" in result.stderr
    assert "What has been downloaded is kept" in result.stderr
    sent = registry.sent
    store = Store(root)
    pulled(store, registry.name("library/tiny"))
    assert weights_of(store, registry.name("library/tiny")) == WEIGHTS
    assert registry.sent - sent < len(WEIGHTS) - 500_000


# The operating system's own call, as it is on a disk on which 700 kB are left.
_FULL = """
real, left = os.pwrite, [700_000]
def pwrite(descriptor, data, offset):
    if len(data) > left[0]:
        raise OSError(errno.ENOSPC, "No space left on device")
    left[0] -= len(data)
    return real(descriptor, data, offset)
os.pwrite = pwrite
"""


def _until(true: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _name(registry: Registry) -> Any:
    from tutti.hub.names import parse_name

    return parse_name(registry.name("library/tiny"))
