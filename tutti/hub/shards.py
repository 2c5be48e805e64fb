"""Models in several GGUF files: as layers, and where Hugging Face's hub has them.

The hub's registry, which is asked by Ollama's protocol, refuses such models. Its list of files has their names and
digests, so they are pulled by these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from tutti.errors import ModelNotFound, TransferError
from tutti.hub.gguf import Shard, shard_names, shard_of
from tutti.hub.manifest import IMAGE, Layer, check_digest
from tutti.hub.registry import Repository, read_body, refusal

_PREFERRED = ("q4_k_m", "q4_k_s", "q5_k_m", "q4_0", "q8_0", "q6_k")  # for `latest`
_PAGES, _PAGE = 50, 8 << 20  # of a list of files, and the bytes of one
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')


def shard_addresses(url: str) -> list[str]:
    """The addresses of all shards of the model whose first one is at `url`; of a whole one it is that alone.

    Raises ModelNotFound where `url` is of another shard than the first.
    """
    parts = urlsplit(url)
    shard = shard_of(parts.path)
    if shard is None:
        return [url]
    if shard.number != 1:
        raise ModelNotFound(
            f"{url} is part {shard.number} of {shard.count}; give the first one, {shard.names[0]}"
        )
    return [parts._replace(path=name).geturl() for name in shard.names]


def as_shards(layers: Sequence[Layer]) -> list[Layer]:
    """`layers` as those of a model, under names that tell their order."""
    names = shard_names("model", len(layers))
    return [
        Layer(f"{IMAGE}model", layer.digest, layer.size, name)
        for layer, name in zip(layers, names, strict=True)
    ]


class _Stored(msgspec.Struct):
    oid: str = ""


class _Entry(msgspec.Struct):
    """A file of a repository, as the hub lists it."""

    path: str
    type: str = "file"
    size: int = 0
    lfs: _Stored | None = None


async def find_shards(repository: Repository) -> list[tuple[Layer, str]]:
    """The layers of the sharded model that `repository` is asked for, and where the hub has each.

    Its tag is the quantization. A projector of the repository comes along. Raises ModelNotFound, TransferError,
    Unauthorized, Temporary.
    """
    files = {entry.path: entry for entry in await _listed(repository) if entry.lfs is not None}
    shard = _chosen(repository, [shard for path in files if (shard := shard_of(path)) is not None])
    absent = [name for name in shard.names if name not in files]
    if absent:
        raise ModelNotFound(
            f"{repository.name}: {len(absent)} of {shard.count} files are absent: {absent[0]}"
        )
    projectors = [
        path
        for path in sorted(files, key=lambda path: ("f16" not in path.lower(), path))
        if path.rpartition("/")[2].lower().startswith("mmproj") and path.endswith(".gguf")
    ]
    layers = as_shards([_layer(files[name], "model") for name in shard.names])
    found = list(zip(layers, shard.names, strict=True))
    found += [(_layer(files[path], "projector"), path) for path in projectors[:1]]
    return [(layer, _address(repository, "resolve/main", path)) for layer, path in found]


def _chosen(repository: Repository, shards: Iterable[Shard]) -> Shard:
    """The model that the tag means. Raises ModelNotFound, which names those that there are."""
    stems = {shard.stem: shard for shard in shards}
    tag = repository.name.tag.lower()
    for wanted in _PREFERRED if tag == "latest" else (tag,):
        fitting = [stem for stem in stems if _is_in(wanted, stem.lower())]
        if fitting:
            return stems[min(fitting, key=lambda stem: (len(stem), stem))]
    if len(stems) == 1 and tag == "latest":
        return next(iter(stems.values()))
    there = ", ".join(sorted(stem.rpartition("/")[2] for stem in stems)[:20]) or "none"
    raise ModelNotFound(f"{repository.name} is none of the models in several files that are there: {there}")


def _is_in(quantization: str, stem: str) -> bool:
    """Whether the file or its folder is named after `quantization`."""
    folder, _, name = stem.rpartition("/")
    return (
        folder.rpartition("/")[2] == quantization
        or re.search(rf"(^|[^a-z0-9]){re.escape(quantization)}$", name) is not None
    )


async def _listed(repository: Repository) -> list[_Entry]:
    """The files of the repository."""
    url: str | None = _address(repository, "tree/main", "", prefix="api/models/") + "?recursive=true"
    found: list[_Entry] = []
    for _ in range(_PAGES):
        if url is None:
            break
        async with repository.client.request("GET", url) as response:
            if response.status_code != 200:
                raise await refusal(response, f"there is no repository {repository.name.repository}")
            raw = await read_body(response, _PAGE)
            following = _NEXT.search(response.headers.get("Link", ""))
            url = urljoin(url, following[1]) if following else None
        try:
            found += msgspec.json.decode(raw, type=list[_Entry])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise TransferError(f"{repository.name.host} lists files in a way that is not known") from error
    return found


def _layer(entry: _Entry, kind: str) -> Layer:
    assert entry.lfs is not None
    return Layer(IMAGE + kind, check_digest(f"sha256:{entry.lfs.oid}"), entry.size)


def _address(repository: Repository, what: str, path: str, prefix: str = "") -> str:
    name = repository.name
    base = f"{name.scheme or 'https'}://{name.host}/{prefix}{name.repository}/{what}"
    return f"{base}/{quote(path)}" if path else base
