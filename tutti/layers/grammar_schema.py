"""Structured outputs as a kind and a text, and what is refused before any compiler sees it.

The compiler (xgrammar) ignores some keywords of JSON Schema, and its time grows with the cube of the nesting. A
schema it would not enforce, or that is larger or deeper than any honest one, is refused here by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tutti.errors import InvalidGrammar
from tutti.request import StructuredOutputs

TEXT_LIMIT = 256 * 1024  # characters of a schema, an expression or a grammar
DEPTH_LIMIT = 128  # levels of brackets

_UNENFORCED = frozenset(
    "not if then else contains minContains maxContains dependentRequired dependentSchemas dependencies "
    "$dynamicRef $recursiveRef unevaluatedItems".split()
)
_TYPED = frozenset(
    "minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems "
    "minProperties maxProperties".split()
)
_CONSTRAINTS = _TYPED | frozenset(
    "properties patternProperties additionalProperties propertyNames required items prefixItems".split()
)
_BRACKET = re.compile(r"[](){}[]")
# What holds brackets that do not nest, by field: escapes, character classes, quoted texts.
_LITERALS = {
    "json": re.compile(r'"(?:\\.|[^"\\])*"'),
    "structural_tag": re.compile(r'"(?:\\.|[^"\\])*"'),
    "grammar": re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^]\\])*\]|#.*'),
    "regex": re.compile(r"\\.|\[(?:\\.|[^]\\])*\]"),
}
# What can match signs that JSON escapes. The compiler stops escaping them in a pattern that is longer than this.
_WIDE = re.compile(r"\.|\[\^|\\[^dwbB]")
_PATTERN_LIMIT = 100
_PATTERN_PIECE = re.compile(r"\\.|\[(?:\\.|[^]\\])*\]|\{\d*,?\d*\}|.", re.DOTALL)
_ALTERNATIVES = ("anyOf", "oneOf", "allOf", "$ref")  # xgrammar reads the first of these and nothing beside it
_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "propertyNames", "unevaluatedProperties")


def canonical(outputs: StructuredOutputs) -> tuple[str, str]:
    """The kind ("json", "regex", "grammar" or "structural_tag") and text that say the same as `outputs`.

    Raises InvalidGrammar, naming the field, for what is too large, too deep or cannot be enforced.
    """
    if outputs.json is not None:
        return "json", _json_schema(outputs.json)
    if outputs.json_object:
        return "json", '{"type": "object"}'
    if outputs.regex is not None:
        return "regex", _checked(outputs.regex, "regex")
    if outputs.choice is not None:
        return "grammar", _choice(outputs.choice)
    if outputs.grammar is not None:
        return "grammar", _checked(outputs.grammar, "grammar")
    return "structural_tag", _structural_tag(outputs.structural_tag or {})


def _json_schema(schema: str | dict[str, Any]) -> str:
    text = _checked(schema if isinstance(schema, str) else _dump(schema, "json"), "json")
    _check_schema(_parse(text, "json"), "json")
    return text


def _choice(choices: tuple[str, ...]) -> str:
    """A grammar of the `choices`, each as it stands."""
    if not choices:
        raise InvalidGrammar("choice is empty; name at least one text", param="choice")
    literals = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in dict.fromkeys(choices))
    return _checked("root ::= " + literals, "choice")


def _structural_tag(tag: str | dict[str, Any]) -> str:
    """A structural tag in its present form; {"structures", "triggers"}, the older one, is rewritten."""
    text = _checked(tag if isinstance(tag, str) else _dump(tag, "structural_tag"), "structural_tag")
    value = _parse(text, "structural_tag")
    if not isinstance(value, dict):
        raise InvalidGrammar("structural_tag must be an object", param="structural_tag")
    if "structures" in value:
        try:
            tags = [
                {
                    "type": "tag",
                    "begin": one["begin"],
                    "content": {"type": "json_schema", "json_schema": one.get("schema", {})},
                    "end": one["end"],
                }
                for one in value["structures"]
            ]
            value = {
                "type": "structural_tag",
                "format": {"type": "triggered_tags", "triggers": value["triggers"], "tags": tags},
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidGrammar(
                "structural_tag must have triggers, and begin, schema and end in each of its structures",
                param="structural_tag",
            ) from error
        text = _dump(value, "structural_tag")
    for schema in _embedded(value):
        _check_schema(schema, "structural_tag")
    return text


def _embedded(value: Any) -> Iterator[Any]:
    """The JSON schemas inside a structural tag."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "json_schema":
                yield inner
            else:
                yield from _embedded(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _embedded(inner)


def _dump(value: Any, field: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidGrammar(f"{field} is not valid JSON: {error}", param=field) from error


def _parse(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidGrammar(f"{field} is not valid JSON: {error}", param=field) from error


def _checked(text: str, field: str) -> str:
    """`text`, unless it is beyond the limits."""
    if len(text) > TEXT_LIMIT:
        raise InvalidGrammar(f"{field} has {len(text):,} characters, more than {TEXT_LIMIT:,}", param=field)
    if "\0" in text:
        raise InvalidGrammar(f"{field} holds a NUL character", param=field)
    if not text.strip():
        raise InvalidGrammar(f"{field} is empty", param=field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidGrammar(f"{field} holds half a surrogate pair, which is no text", param=field) from error
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_LITERALS[field].sub("", text)) if field in _LITERALS else ():
        depth += 1 if bracket[0] in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > DEPTH_LIMIT:
        raise InvalidGrammar(f"{field} is nested {deepest} levels deep, more than {DEPTH_LIMIT}", param=field)
    return text


def _check_schema(schema: Any, field: str, path: str = "#") -> None:
    """Refuse a JSON schema that would compile to something weaker than it says."""
    if not isinstance(schema, dict):
        return  # true and false are schemas; the compiler refuses anything else
    problem = _problem(schema)
    if problem:
        raise InvalidGrammar(f"{field}: at {path}: {problem}", param=field)
    for name in _SCHEMA_MAPS:
        if isinstance(schema.get(name), dict):
            for key, inner in schema[name].items():
                _check_schema(inner, field, f"{path}/{name}/{key}")
    for name in _SCHEMA_LISTS:
        if isinstance(schema.get(name), list):
            for place, inner in enumerate(schema[name]):
                _check_schema(inner, field, f"{path}/{name}/{place}")
    for name in _SCHEMAS:
        _check_schema(schema.get(name), field, f"{path}/{name}")


def _problem(schema: dict[str, Any]) -> str | None:
    """What of one schema, its inner schemas apart, could not be enforced."""
    unenforced = sorted(_UNENFORCED & schema.keys())
    if schema.get("uniqueItems") is True:
        unenforced.append("uniqueItems")
    if unenforced:
        return f"{unenforced[0]!r} cannot be enforced; remove it"
    alternative = next((name for name in _ALTERNATIVES if name in schema), None)
    fixed = "enum" in schema or "const" in schema
    typed = sorted(_TYPED & schema.keys() - {"format"})
    if alternative is not None:
        beside = sorted((_CONSTRAINTS | set(_ALTERNATIVES)) & schema.keys() - {alternative})
        if beside:
            return f"{beside[0]!r} beside {alternative!r} cannot be enforced; move it into {alternative!r}"
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
            return f"$ref {reference!r} points out of the schema; use '#/$defs/...'"
        several = schema.get("allOf")
        if isinstance(several, list) and len(several) > 1:
            return "'allOf' of several schemas cannot be enforced; merge them into one"
    elif typed and "type" not in schema and not fixed:
        return f"{typed[0]!r} needs a 'type' beside it"
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        if "minLength" in schema or "maxLength" in schema:
            return (
                "'pattern' cannot be combined with 'minLength' or 'maxLength'; say the length in the pattern"
            )
        if _WIDE.search(pattern) and pattern_size(pattern) > _PATTERN_LIMIT:
            return f"'pattern' repeats '.' or '[^...]' too often; use 'maxLength' or at most {_PATTERN_LIMIT} repeats"
    if schema.get("format") == "json-pointer":
        return "the format 'json-pointer' cannot be enforced; remove it"
    if "multipleOf" in schema and schema.get("type") != "integer":
        return "'multipleOf' can be enforced for integers only"
    required, known = schema.get("required"), schema.get("properties", {})
    if isinstance(required, list) and isinstance(known, dict) and "additionalProperties" not in schema:
        unknown = [name for name in required if isinstance(name, str) and name not in known]
        if unknown and "patternProperties" not in schema:
            return f"'required' names {unknown[0]!r}, which 'properties' does not describe"
    return None


def pattern_size(pattern: str) -> int:
    """How many atoms a regular expression has when its counted repeats are written out."""
    sizes = [0]  # of the open groups, the outermost first
    last = 0  # of the last atom, which a repeat would repeat
    for piece in _PATTERN_PIECE.findall(pattern):
        if piece == "(":
            sizes.append(0)
        elif piece == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif piece[0] == "{" and len(piece) > 2:
            most = max(int(number) for number in re.findall(r"\d+", piece) or ["1"])
            sizes[-1] += last * (max(most, 1) - 1)
            last = 0
        elif piece not in "|*+?^$":
            last = 1
            sizes[-1] += 1
    return sum(sizes)
