"""Bodies to typed requests; what does not fit is refused in words that name the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from tutti.errors import InvalidRequest

T = TypeVar("T")

_WHERE = re.compile(r" - at (?:`(?:key|value)` in )?`\$\.?([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")


def parse(body: bytes, kind: type[T]) -> T:
    """`body` as a `kind`; unknown fields are ignored, as OpenAI's and vLLM's servers do. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), "") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRequest("The body's JSON is nested too deeply.") from error


def convert(value: object, kind: type[T], name: str, *, strict: bool = True) -> T:
    """`value`, which was decoded before and is the field `name`, as a `kind`. Raises InvalidRequest.

    Not `strict`: text that says a number or a truth is one, as in forms.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True, strict=strict)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), name) from error


def _invalid(message: str, within: str) -> InvalidRequest:
    """From "Expected `int | null`, got `str` - at `$.max_tokens`" to a message that begins with the field."""
    where = _WHERE.search(message)
    path = ".".join(name for name in (within, where[1] if where else "") if name)
    missing = _MISSING.match(message)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
        return InvalidRequest(f"The field '{path}' is missing.", param=path)
    unknown = _UNKNOWN.match(message)
    if unknown:
        path = f"{path}.{unknown[1]}" if path else unknown[1]
        return InvalidRequest(f"The field '{path}' is not known.", param=path)
    what = message[: where.start()] if where else message
    what = what[0].lower() + what[1:].replace("`", "").replace(" | null", " or null")
    return InvalidRequest(f"{path}: {what}." if path else f"The body: {what}.", param=path or None)
