"""Names of stored models, as Ollama writes them: `[scheme://][host/][namespace/]model[:tag]`.

What is left out is the usual: the public registry, the namespace `library`, the tag `latest`. A part begins with a
letter, a digit or `_`, so that no part can be `..` or hidden, and none has a slash: a valid name is a safe path.
Names are told apart without regard to case; the store keeps them as they were first written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from tutti.errors import InvalidModelName

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"

_PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][\w.:-]{0,349}", re.ASCII),
    "namespace": re.compile(r"[A-Za-z0-9_][\w-]{0,79}", re.ASCII),
    "model": re.compile(r"[A-Za-z0-9_][\w.-]{0,79}", re.ASCII),
    "tag": re.compile(r"[A-Za-z0-9_][\w.-]{0,79}", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class ModelName:
    """A complete name. `scheme` says how to reach the registry (empty: https) and is no part of the identity."""

    model: str
    tag: str = TAG
    namespace: str = NAMESPACE
    host: str = HOST
    scheme: str = ""

    def __str__(self) -> str:
        """As people write it: without the parts that are the usual ones, but always with the tag."""
        short = f"{self.model}:{self.tag}"
        if self.host != HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == NAMESPACE else f"{self.namespace}/{short}"

    @property
    def full(self) -> str:
        """With every part: `host/namespace/model:tag`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def path(self) -> PurePosixPath:
        """Where its manifest lies, below `manifests`."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def repository(self) -> str:
        """What a registry calls the model, without the tag."""
        return f"{self.namespace}/{self.model}"

    @property
    def key(self) -> str:
        """Equal for names that are the same but for case."""
        return self.full.lower()


def parse_name(text: str | ModelName) -> ModelName:
    """The name that `text` is, or one that was read before. Raises InvalidModelName."""
    if isinstance(text, ModelName):
        return text
    scheme, found, rest = text.rpartition("://")
    if found and scheme not in ("http", "https"):
        raise InvalidModelName("invalid model name", param="model")
    head, slash, last = rest.rpartition("/")
    model, colon, tag = last.partition(":")
    parts = [*head.split("/"), model] if slash else [model]
    if len(parts) > 3:
        raise InvalidModelName("invalid model name", param="model")
    named = dict(zip(("model", "namespace", "host"), reversed(parts), strict=False))
    if colon:
        named["tag"] = tag
    return _checked(ModelName(**named, scheme=scheme))


def key_of(text: str) -> str:
    """Equal for texts that name the same model: `Mario`, `mario:latest`. What is no valid name is its own."""
    try:
        return parse_name(text).key
    except InvalidModelName:
        return text


def name_of_path(path: PurePosixPath) -> ModelName | None:
    """The name of the manifest at `path` below `manifests`; None for a file that is none."""
    if len(path.parts) != 4:
        return None
    host, namespace, model, tag = path.parts
    try:
        return _checked(ModelName(model, tag, namespace, host))
    except InvalidModelName:
        return None


def name_for_file(file_name: str) -> ModelName:
    """A name for a model that comes as a file: the file's own, without its ending and what a name cannot have."""
    stem = re.sub(r"(-0*1-of-\d+)?\.gguf$", "", file_name.rsplit("/", 1)[-1])  # the first of several
    stem = re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip(".-").lower()[:80]
    return _checked(ModelName(stem))


def without_scheme(name: ModelName) -> ModelName:
    """The same model, however it is reached."""
    return replace(name, scheme="")


def _checked(name: ModelName) -> ModelName:
    for part, pattern in _PARTS.items():
        if pattern.fullmatch(getattr(name, part)) is None:
            raise InvalidModelName("invalid model name", param="model")
    return name
