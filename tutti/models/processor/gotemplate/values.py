"""The values of a Go template, and how Go prints them.

A template sees texts, truth values, numbers, None, lists, dicts (Go's maps: an absent key is None) and `Record`s (Go's
structs: an absent field is an error). Nothing else is ever handed to one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NO_VALUE = "<no value>"

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True, slots=True)
class Record:
    """A Go struct: fields by name, and the JSON value that it is written as; None: an object of its fields."""

    kind: str
    fields: Mapping[str, Any]
    plain: Any = None


class Records(list[Record]):
    """A list of structs that prints as JSON, as Ollama's tools do."""


class Names(list[str]):
    """The types of a JSON schema's property: a single one prints as its name."""


def as_json(value: Any) -> str:
    """`value` as Go's `json.Marshal` writes it: no spaces, HTML's signs escaped, whole numbers without a point."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, escaped in _HTML.items():
        text = text.replace(sign, escaped)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return _plain(value.fields if value.plain is None else value.plain)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Names):
        return value[0] if len(value) == 1 else list(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def printed(value: Any, *, nested: bool = False) -> str:
    """`value` as an action puts it into the text.

    Maps and structs print as JSON: Ollama gives those that templates print (tools, arguments, properties) that form,
    and Go's own (`map[city:Rome]`) would tell a model nothing. Lists of anything else print as Go has them, `[a b]`.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>" if nested else NO_VALUE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Names) and len(value) < 2:
        return "".join(value)
    if isinstance(value, Record | Mapping | Records):
        return as_json(value)
    return f"[{' '.join(printed(one, nested=True) for one in value)}]"


def number(value: float) -> str:
    """A float as `%v` has it: the shortest that reads back, with an exponent where it is very large or small."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    if value != 0 and not 1e-4 <= abs(value) < 1e21:
        mantissa, _, exponent = f"{value!r}".partition("e")
        if not exponent:  # Python writes 1e16 to 1e21 so, and 0.0001 without an exponent
            mantissa, _, exponent = f"{value:e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}"
    return str(int(value)) if value.is_integer() else repr(value)


def truth(value: Any) -> bool:
    """What `if` makes of a value: structs are true, all else unless it is empty, zero or nothing."""
    return isinstance(value, Record) or bool(value)


def named(value: Any) -> str:
    """The kind of a value, for messages."""
    if isinstance(value, Record):
        return value.kind
    for kind, name in ((str, "text"), (bool, "truth value"), (int | float, "number"), (Mapping, "map")):
        if isinstance(value, kind):
            return name
    return "nothing" if value is None else "list" if isinstance(value, Sequence) else type(value).__name__
