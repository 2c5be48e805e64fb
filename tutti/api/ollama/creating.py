"""The fields of `/api/create`, and the Modelfile that they amount to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tutti.errors import InvalidRequest
from tutti.formats.gguf.quantizing import ProcessQuantizer, quantizer
from tutti.hub.modelfile import ROLES, Command, Modelfile, read_modelfile

_MOST_FILES = 1024


class SaidFields(msgspec.Struct, kw_only=True):
    """A message that conversations with the model begin with."""

    role: str
    content: str = ""


class CreateFields(msgspec.Struct, kw_only=True, rename={"from_": "from"}):
    """`POST /api/create`. `name`, `quantization` and `modelfile` (the text of one) are older words.

    `files` and `adapters` are digests of blobs by the names of the files that they are.
    """

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    from_: str | None = None
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[SaidFields] | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    quantize: str | None = None
    quantization: str | None = None
    modelfile: str | None = None
    remote_host: str | None = None
    draft_files: dict[str, str] | None = None
    draft_quantize: str | None = None
    info: dict[str, Any] | None = None
    capabilities: list[str] | None = None

    @property
    def said(self) -> str:
        """What the model is to be called."""
        return self.model or self.name or ""

    def quantizer(self) -> ProcessQuantizer | None:
        """Who makes fewer bits of it. Raises ConfigError on a type that is none."""
        kind = self.quantize or self.quantization
        return quantizer(kind) if kind else None

    def commands(self) -> Modelfile:
        """All but the files and the quantization. Raises InvalidRequest, ModelfileError."""
        refused = {
            "remote_host": self.remote_host,
            "draft_files": self.draft_files,
            "draft_quantize": self.draft_quantize,
            "info": self.info,
            "capabilities": self.capabilities,
        }
        for name, value in refused.items():
            if value:
                raise InvalidRequest(f"{name} is not supported by this server: leave it out", param=name)
        if len(self.files or ()) > _MOST_FILES:
            raise InvalidRequest(
                f"too many files: {len(self.files or ())} exceeds maximum {_MOST_FILES}", param="files"
            )
        commands = list(read_modelfile(self.modelfile).commands) if self.modelfile else []
        if not (self.from_ or self.files or commands):
            raise InvalidRequest("neither 'from' or 'files' was specified", param="from")
        return Modelfile((*commands, *self._said()))

    def _said(self) -> Iterator[Command]:
        if self.from_:
            yield Command("from", self.from_)
        for digest in (self.adapters or {}).values():
            yield Command("adapter", f"@{digest}")
        single = {
            "template": self.template,
            "system": self.system,
            "renderer": self.renderer,
            "parser": self.parser,
            "requires": self.requires,
        }
        for name, value in single.items():
            if value:
                yield Command(name, value)
        licenses = [self.license] if isinstance(self.license, str) else self.license or []
        for text in licenses:
            yield Command("license", text)
        for key, value in (self.parameters or {}).items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    yield Command("parameter", _text(key, one), key)
        for number, message in enumerate(self.messages or ()):
            if message.role not in ROLES:
                raise InvalidRequest(
                    f'messages[{number}]: message role must be one of "system", "user", or "assistant"',
                    param="messages",
                )
            yield Command("message", message.content, message.role)


def _text(name: str, value: Any) -> str:
    """A parameter's value as a Modelfile has it. Raises InvalidRequest on an object."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise InvalidRequest(
            f"parameters.{name}: expected a string, a number or a boolean", param="parameters"
        )
    return str(value)
