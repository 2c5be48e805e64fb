"""How to answer: what the flags of `tutti run` and its `/set` commands say."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutti.api.ollama.duration import parse as parse_duration
from tutti.api.ollama.options import Options
from tutti.cli.sheet import Sheet
from tutti.errors import ConfigError, TuttiError
from tutti.hub.modelfile import PARAMETERS, Command, typed_parameter
from tutti.request import SamplingParams, StructuredOutputs

# vLLM's names for parameters that Ollama calls otherwise.
_OTHER_NAMES = {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}
# Parameters that Ollama has not.
OURS: dict[str, type] = {"min_tokens": int, "ignore_eos": bool}
# Ollama's that say how to answer; the others of a Modelfile say how a model is loaded.
OLLAMAS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "num_predict", "stop", "num_ctx"),
        *("presence_penalty", "frequency_penalty", "repeat_penalty", "repeat_last_n"),
    }
)
_LEVELS = ("low", "medium", "high", "max")


@dataclass(slots=True)
class Manner:
    """How to answer, as set by flags and by `/set`.

    `parameters` go by Ollama's names, in their own types. `think`: None leaves it to the model; "false", "true" or a
    level asks its template. `form` is what the answer must be: any JSON object or a schema. `keep_alive`: how long a
    server keeps the model afterwards, as Go writes durations; empty: as long as it usually does. `speak` is the file
    that the answer is spoken into, by `voice`. `sheet` says how its pictures are drawn, and into which file.
    """

    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    think: str | None = None
    form: StructuredOutputs | None = None
    keep_alive: str = ""
    verbose: bool = False
    wrap: bool = True
    hide_thinking: bool = False
    speak: Path | None = None
    voice: str | None = None
    sheet: Sheet = field(default_factory=Sheet)

    def set_parameter(self, name: str, values: list[str], known: Collection[str] | None = None) -> None:
        """Set a parameter from what was typed; `known` are those that the model takes. Raises ConfigError."""
        theirs = _OTHER_NAMES.get(name, name)
        if known is not None and theirs not in known:
            raise ConfigError(f"unknown parameter '{name}'; there are {', '.join(sorted(known))}")
        try:
            value = _typed(theirs, values)
            sampling({theirs: value}, {})  # a value that is out of its range is told at once
        except TuttiError as error:
            raise ConfigError(error.message) from error
        self.parameters[theirs] = value

    def set_think(self, value: str) -> None:
        """true, false or a level. Raises ConfigError."""
        if value not in ("true", "false", *_LEVELS):
            raise ConfigError(f"think takes true, false, {', '.join(_LEVELS)}; got {value!r}")
        self.think = value

    def set_format(self, text: str) -> None:
        """ "json", or a JSON schema as text. Raises ConfigError."""
        if text == "json":
            self.form = StructuredOutputs(json_object=True)
            return
        try:
            schema = json.loads(text)
        except ValueError:
            schema = None
        if not isinstance(schema, dict):
            raise ConfigError(f"format takes json or a JSON schema; got {text!r}")
        self.form = StructuredOutputs(json=schema)

    def set_keep_alive(self, text: str) -> None:
        """How long a server keeps the model: `5m`, `1h30m`, `0s`, `-1s` for ever. Raises InvalidRequest."""
        parse_duration(text)
        self.keep_alive = text

    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template is told about thinking; templates differ in the name they read."""
        if self.think is None:
            return {}
        thinks = self.think != "false"
        level = {"reasoning_effort": self.think} if self.think in _LEVELS else {}
        return {"enable_thinking": thinks, "thinking": thinks, **level}


def sampling(
    parameters: dict[str, Any],
    recommended: dict[str, Any],
    *,
    form: StructuredOutputs | None = None,
    skip_special_tokens: bool = True,
) -> SamplingParams:
    """The sampling that parameters by Ollama's names ask for; `recommended` are the checkpoint's, by ours.

    Raises InvalidRequest.
    """
    ours = {name: value for name, value in parameters.items() if name in OURS}
    theirs = {name: value for name, value in parameters.items() if name not in OURS}
    return Options.of(theirs).sampling(
        recommended | ours, logprobs=None, form=form, skip_special_tokens=skip_special_tokens
    )


def _typed(name: str, values: list[str]) -> Any:
    """What was typed, in the parameter's type. Raises ConfigError, ModelfileError."""
    if PARAMETERS.get(name) is list:
        return list(values)
    text = " ".join(values)
    kind = OURS.get(name)
    if kind is None:
        return typed_parameter(Command("parameter", text, name))
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"invalid {kind.__name__} value [{text}]") from None
