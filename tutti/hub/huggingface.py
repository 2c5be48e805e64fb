"""Downloads from a Hugging Face hub (or a mirror that speaks its protocol), into its ordinary cache.

The transfer itself (resuming, hashes, parallel files) is huggingface_hub's; here is which files are wanted, and what
its errors mean to the person who typed the name.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tutti.errors import ModelNotFound, Unauthorized
from tutti.settings import Settings

# A checkpoint's files: weights, configurations, tokenizer, chat template, voices.
WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "merges.txt",
    "vocab.txt",
    "*.model",
    "*.tiktoken",
    "spk_dict.pt",
)
# Folders hold other forms of the same weights, all but speech_tokenizer, those of what a unified model draws with
# (transformer, vae, scheduler) and those of sentence-transformers' modules, such as 1_Pooling; there is no "but" in
# patterns, so these spell it out. `consolidated` files repeat the sharded ones.
_OTHER_FOLDERS = (
    *("[!stv0-9]*/*", "[0-9][!_]*/*"),
    *("s[!pc]*/*", "sc[!h]*/*", "t[!r]*/*", "tr[!a]*/*", "tra[!n]*/*", "v[!a]*/*", "va[!e]*/*"),
)
UNWANTED = (*_OTHER_FOLDERS, "consolidated*", "*.gguf", "*.onnx")
# The same of a repository in diffusers' format: the folders of its components, without other forms of their weights.
# What lies beside model_index.json is a single file for other programs.
PIPELINE = "model_index.json"
PIPELINE_WANTED = (PIPELINE, "*/*.json", "*/*.safetensors", "*/*.gguf", "*/*.txt", "*/*.model", "*/*.jinja")
PIPELINE_UNWANTED = ("*.fp16.*", "*.bf16.*", "*.ema.*", "*non_ema*", "*/*/*")
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


def download(
    repo: str,
    revision: str | None,
    settings: Settings,
    cache: Path | None = None,
    without: Collection[str] = (),
) -> Path:
    """The snapshot folder of `repo` at `revision` (default: main). What is there already is not fetched again.

    The weights in the folders `without` are left where they are. Without a network, a complete snapshot in the cache
    serves. Raises ModelNotFound or Unauthorized.
    """
    with _explained(repo, revision, settings):
        return _snapshot(
            repo,
            revision,
            cache,
            [f"{folder}/*.{ending}" for folder in without for ending in ("safetensors", "gguf")],
            endpoint=_endpoint(settings),
            token=settings.hf_token,
        )


def downloaded(repo: str, revision: str | None, cache: Path | None = None) -> Path | None:
    """The snapshot folder of an earlier download, if that is complete. The network is not asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _snapshot(repo, revision, cache, local_files_only=True)
    except LocalEntryNotFoundError:
        return None


def _snapshot(
    repo: str, revision: str | None, cache: Path | None, without: Sequence[str] = (), **how: Any
) -> Path:
    """The folder with what is wanted of a repository, of whichever format, `without` files of these patterns.

    `how` it is fetched goes to the library.
    """
    from huggingface_hub import snapshot_download

    def fetch(wanted: Sequence[str], unwanted: Sequence[str]) -> Path:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                cache_dir=cache,
                allow_patterns=list(wanted),
                ignore_patterns=list(unwanted),
                **how,
            )
        )

    begun = fetch([PIPELINE], [])
    wanted, unwanted = patterns([PIPELINE] if (begun / PIPELINE).is_file() else [])
    return fetch(wanted, (*unwanted, *without))


def outline(repo: str, revision: str | None, settings: Settings, folder: Path) -> Path:
    """`repo` in `folder` with its weights left out: small files, and safetensors files whose header is real and whose
    data is a hole of the right length. A plan can be made of it; megabytes are fetched, not gigabytes.

    Raises ModelNotFound or Unauthorized.
    """
    from huggingface_hub import HfApi, snapshot_download

    with _explained(repo, revision, settings):
        api = HfApi(endpoint=_endpoint(settings), token=settings.hf_token)
        info = api.model_info(repo, revision=revision or "main")  # what follows is of this one commit
        names = [file.rfilename for file in info.siblings or ()]
        wanted, unwanted = patterns(names)
        small = [pattern for pattern in wanted if not pattern.endswith("*.safetensors")]
        snapshot_download(
            repo,
            revision=info.sha,
            local_dir=folder,
            endpoint=_endpoint(settings),
            token=settings.hf_token,
            allow_patterns=small,
            ignore_patterns=list(unwanted),
        )
        for name in checkpoint_files(names):
            if name.endswith(".safetensors"):
                (folder / name).parent.mkdir(exist_ok=True)
                _fetch_header(repo, name, str(info.sha), settings, folder)
    return folder


def patterns(names: Collection[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Which files of a repository of these are wanted, and which of them are not."""
    return (PIPELINE_WANTED, PIPELINE_UNWANTED) if PIPELINE in names else (WANTED, UNWANTED)


def checkpoint_files(names: Collection[str]) -> list[str]:
    """Those of the files that a checkpoint is made of, sorted."""
    wanted, unwanted = patterns(names)
    return sorted(
        name
        for name in names
        if any(fnmatch(name, one) for one in wanted) and not any(fnmatch(name, one) for one in unwanted)
    )


def _fetch_header(repo: str, name: str, revision: str, settings: Settings, folder: Path) -> None:
    """Write the first bytes of a safetensors file, up to its data, and a hole for the rest."""
    import httpx
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo, name, revision=revision, endpoint=_endpoint(settings))
    headers = build_hf_headers(token=settings.hf_token)

    headers["Accept-Encoding"] = "identity"  # the length must be the file's
    with (
        httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as response,
        (folder / name).open("wb") as file,
    ):
        response.raise_for_status()
        begin, needed = b"", 8
        for piece in response.iter_bytes(65536):  # leaving early closes the connection
            begin += piece
            if len(begin) >= 8:
                needed = 8 + min(struct.unpack("<Q", begin[:8])[0], _LONGEST_HEADER)
            if len(begin) >= needed:
                break
        file.write(begin[:needed])
        file.truncate(int(response.headers["Content-Length"]))


@contextmanager
def _explained(repo: str, revision: str | None, settings: Settings) -> Iterator[None]:
    """What huggingface_hub raises, in our errors and words."""
    import httpx
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = _endpoint(settings)
    try:
        yield
    except GatedRepoError as error:
        raise Unauthorized(
            f"model {repo!r} is gated: accept its terms at {endpoint}/{repo}, then set HF_TOKEN to a token of yours"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"model {repo!r} has no revision {revision!r} at {endpoint}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"model {repo!r} not found: there is no such directory here and no such model at {endpoint} "
            "(a private one needs HF_TOKEN)"
        ) from error
    except HFValidationError as error:
        raise ModelNotFound(f"{repo!r} cannot be a model's name: {error}") from error
    except LocalEntryNotFoundError as error:
        raise ModelNotFound(
            f"model {repo!r} not found: there is no such directory here, no complete download of it in the cache, "
            f"and {endpoint} cannot be asked ({_reason(error)})"
        ) from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise ModelNotFound(
            f"model {repo!r} could not be downloaded from {endpoint}: {_reason(error)}"
        ) from error


def _endpoint(settings: Settings) -> str:
    from huggingface_hub import constants

    return (settings.hf_endpoint or constants.ENDPOINT).rstrip("/")


def _reason(error: BaseException) -> str:
    """The first line of what went wrong underneath."""
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def cache_folder() -> Path:
    """Where downloads are kept: Hugging Face's own cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
