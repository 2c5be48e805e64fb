"""Downloads from a Hugging Face hub (or a mirror that speaks its protocol), into its ordinary cache.

The transfer itself (resuming, hashes, parallel files) is huggingface_hub's; here is which files are wanted, and what
its errors mean to the person who typed the name.
"""

from __future__ import annotations

from pathlib import Path

from tutti.errors import ModelNotFound, Unauthorized
from tutti.settings import Settings

# A checkpoint's top-level files: weights, configurations, tokenizer, chat template.
WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "merges.txt",
    "vocab.txt",
    "*.model",
    "*.tiktoken",
)
# Folders hold other forms of the same weights; `consolidated` files repeat the sharded ones.
UNWANTED = ("*/*", "consolidated*", "*.gguf", "*.onnx")


def download(repo: str, revision: str | None, settings: Settings, cache: Path | None = None) -> Path:
    """The snapshot folder of `repo` at `revision` (default: main). What is there already is not fetched again.

    Without a network, a complete snapshot in the cache serves. Raises ModelNotFound or Unauthorized.
    """
    import httpx
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = (settings.hf_endpoint or constants.ENDPOINT).rstrip("/")
    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            cache_dir=cache,
            endpoint=endpoint,
            token=settings.hf_token,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
        )
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
    return Path(folder)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong underneath."""
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def cache_folder() -> Path:
    """Where downloads are kept: Hugging Face's own cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
