"""Forms with files in them: multipart/form-data (RFC 7578), out of a body that is in memory already."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message

from tutti.errors import InvalidRequest

_END = b"--"


@dataclass(slots=True)
class Form:
    """The fields of a form, each with its values in order, and its files, which are `uploads` in the same way."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    uploads: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """The last file of each name."""
        return {name: files[-1] for name, files in self.uploads.items()}

    def all_files(self, name: str) -> list[bytes]:
        """All files that are sent as `name` or as `name[]`."""
        return self.uploads.get(name, []) + self.uploads.get(f"{name}[]", [])

    def value(self, name: str, default: str = "") -> str:
        """The last value of a field; `default` when there is none."""
        return self.fields.get(name, [default])[-1]

    def values(self, name: str) -> list[str]:
        """All values of a field, whether it is sent as `name` or as `name[]`."""
        return self.fields.get(name, []) + self.fields.get(f"{name}[]", [])

    def number(self, name: str, default: float) -> float:
        """A field as a number. Raises InvalidRequest."""
        text = self.value(name)
        try:
            return float(text) if text else default
        except ValueError as error:
            raise InvalidRequest(f"{name}: expected a number, got {text!r}.", param=name) from error

    def flag(self, name: str) -> bool:
        """A field as yes or no. Raises InvalidRequest."""
        text = self.value(name, "false").lower()
        if text not in ("true", "1", "false", "0", ""):
            raise InvalidRequest(f"{name}: expected true or false, got {text!r}.", param=name)
        return text in ("true", "1")


def parse_form(body: bytes, content_type: str) -> Form:
    """The form in `body`. Raises InvalidRequest."""
    kind = _header(content_type)
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise InvalidRequest(
            f"Send the file as multipart/form-data with a boundary, not as {content_type or 'nothing'}."
        )
    mark = b"\r\n--" + boundary.encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) < 3 or not pieces[-1].startswith(_END):
        raise InvalidRequest("The form is cut off: its closing boundary is missing.")
    form = Form()
    for piece in pieces[1:-1]:
        _take(form, piece)
    return form


def _take(form: Form, piece: bytes) -> None:
    """One part: `[spaces] CRLF headers CRLF CRLF content`."""
    head, blank, content = piece.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "replace").split("\r\n")[1:]
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    disposition = _header(headers.get("content-disposition", ""))
    name = disposition.get_param("name")
    if not blank or not isinstance(name, str):
        raise InvalidRequest("The form has a part without a name.")
    if disposition.get_param("filename") is not None:
        form.uploads.setdefault(name, []).append(content)
    else:
        form.fields.setdefault(name, []).append(content.decode("utf-8", "replace"))


def _header(value: str) -> Message:
    """A header's value and its parameters, as `email.message` reads them."""
    message = Message()
    message["content-type"] = value
    return message
