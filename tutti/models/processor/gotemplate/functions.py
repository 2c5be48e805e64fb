"""The functions of Go's templates, and Ollama's own: `json`, `currentDate`, `yesterdayDate`, `toTypeScriptType`.

`html`, `js`, `urlquery` and `call`, which Go has and no prompt needs, are refused. `and` and `or` are in `execute`,
since they leave arguments uncomputed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from tutti.models.processor.gotemplate.values import Record, as_json, named, number, printed, truth

_WIDEST = 100_000  # what a width or precision of `printf` may be
_VERB = re.compile(r"%([-+# 0]*)(\*|\d*)(?:\.(\*|\d*))?(.)?", re.DOTALL)


class FunctionFault(Exception):
    """A function was given what it does not take."""


def _comparable(left: Any, right: Any, ordered: bool) -> None:
    for value in (left, right):
        basic = isinstance(value, str | int | float) or (value is None and not ordered)
        if not basic or (ordered and isinstance(value, bool)):
            raise FunctionFault(f"a {named(value)} cannot be compared")
    kinds = {_kind(value) for value in (left, right) if value is not None}
    if len(kinds) > 1:
        raise FunctionFault(f"incompatible types for comparison: a {named(left)} and a {named(right)}")


def _kind(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionFault("eq needs something to compare with")
    found = False
    for other in others:
        _comparable(first, other, ordered=False)
        found = found or first == other
    return found


def _ne(left: Any, right: Any) -> bool:
    _comparable(left, right, ordered=False)
    return bool(left != right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def function(left: Any, right: Any) -> bool:
        _comparable(left, right, ordered=True)
        return compare(left, right)

    return function


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | Mapping):
        return len(value)
    raise FunctionFault(f"len of a {named(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key) if isinstance(key, str) else None
        elif isinstance(value, list | str):
            items: Any = value.encode() if isinstance(value, str) else value
            if isinstance(key, bool) or not isinstance(key, int):
                raise FunctionFault(f"a list is indexed by a number, not by a {named(key)}")
            if not 0 <= key < len(items):
                raise FunctionFault(f"index out of range: {key}")
            value = items[key]
        else:
            raise FunctionFault(f"a {named(value)} cannot be indexed")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, list | str) or len(bounds) > 2:
        raise FunctionFault(f"slice takes a list or a text and up to two bounds, not a {named(value)}")
    items: Any = value.encode() if isinstance(value, str) else value
    if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in bounds):
        raise FunctionFault("the bounds of a slice are numbers")
    start, end = bounds[0] if bounds else 0, bounds[1] if len(bounds) == 2 else len(items)
    if not 0 <= start <= end <= len(items):
        raise FunctionFault(f"slice bounds out of range: {start}:{end} of {len(items)}")
    part = items[start:end]
    return part.decode(errors="replace") if isinstance(value, str) else type(value)(part)


def _print(*values: Any) -> str:
    text = ""
    for place, value in enumerate(values):
        apart = place and not isinstance(value, str) and not isinstance(values[place - 1], str)
        text += (" " if apart else "") + printed(value, nested=True)
    return text


def _printf(form: Any, *values: Any) -> str:
    if not isinstance(form, str):
        raise FunctionFault("printf begins with a text")
    left = list(values)

    def size(written: str | None) -> int:
        """A width or a precision: written, or (`*`) given before the value; of counting, templates make this."""
        given = left.pop(0) if written == "*" and left else written or 0
        if (
            isinstance(given, bool)
            or not isinstance(given, int | str)
            or not str(given).lstrip("-").isdecimal()
        ):
            raise FunctionFault("printf: a width is a number")
        if abs(int(given)) > _WIDEST:
            raise FunctionFault(f"printf: widths and precisions go up to {_WIDEST:,}")
        return int(given)

    def directive(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        wide, precise = size(width), None if precision is None else size(precision)
        if verb is None or not left:
            return "%!(NOVERB)" if verb is None else f"%!{verb}(MISSING)"
        text = _formatted(verb, left.pop(0), flags, precise)
        fill = "0" if "0" in flags and "-" not in flags and verb in "dfgexX" else " "
        return text.ljust(abs(wide)) if "-" in flags or wide < 0 else text.rjust(wide, fill)

    text = _VERB.sub(directive, form)
    return text + (f"%!(EXTRA {', '.join(printed(value, nested=True) for value in left)})" if left else "")


def _formatted(verb: str, value: Any, flags: str, precision: int | None) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if verb in "vs" and not (verb == "s" and (is_number or isinstance(value, bool))):
        text = printed(value, nested=True)
        return text if precision is None else text[:precision]
    if verb == "q" and isinstance(value, str):
        return json.dumps(value[:precision], ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return printed(value)
    if verb in "dxXob" and is_number and isinstance(value, int):
        return format(value, ("+" if "+" in flags else "") + verb)
    if verb in "feEgG" and isinstance(value, float):
        if verb == "g" and precision is None:
            return number(value)
        return format(value, f"{'+' if '+' in flags else ''}.{6 if precision is None else precision}{verb}")
    if verb == "c" and is_number and isinstance(value, int) and 0 <= value < 0x110000:
        return chr(value)
    return f"%!{verb}({printed(value, nested=True)})"


def _typescript(value: Any) -> str:
    known = value.fields.get("ToTypeScriptType") if isinstance(value, Record) else None
    return known if isinstance(known, str) else "any"


def _refused(name: str) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise FunctionFault(f"the function {name} is not for prompts")

    return function


OLLAMA = ("json", "currentDate", "yesterdayDate", "toTypeScriptType")

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _eq,
    "ne": _ne,
    "lt": _ordered(lambda left, right: left < right),
    "le": _ordered(lambda left, right: left <= right),
    "gt": _ordered(lambda left, right: left > right),
    "ge": _ordered(lambda left, right: left >= right),
    "not": lambda value: not truth(value),
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(printed(value, nested=True) for value in values) + "\n",
    "printf": _printf,
    "json": as_json,
    "currentDate": lambda *_: date.today().isoformat(),
    "yesterdayDate": lambda *_: (date.today() - timedelta(days=1)).isoformat(),
    "toTypeScriptType": _typescript,
    **{name: _refused(name) for name in ("html", "js", "urlquery", "call")},
}
