"""How to answer: what the flags of `tutti run` and its `/set` commands say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tutti.errors import ConfigError
from tutti.request import SamplingParams, StructuredOutputs

# Ollama's names for parameters whose name here (and in vLLM) is another.
_OLLAMA_NAMES = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
_TYPEABLE = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens", "stop"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "ignore_eos"),
)
_LEVELS = ("low", "medium", "high", "max")


@dataclass(slots=True)
class Manner:
    """How to answer, as set by flags and by `/set`.

    `think`: None leaves it to the model; "false", "true" or a level asks its template. `form` is what the answer must
    be: any JSON object or a schema. `speak` is the file that the answer is spoken into, by `voice`.
    """

    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    think: str | None = None
    form: StructuredOutputs | None = None
    verbose: bool = False
    wrap: bool = True
    hide_thinking: bool = False
    speak: Path | None = None
    voice: str | None = None

    def set_parameter(self, name: str, values: list[str]) -> None:
        """Set a sampling parameter from what was typed. Raises ConfigError or InvalidRequest."""
        ours = _OLLAMA_NAMES.get(name, name)
        if ours not in _TYPEABLE:
            raise ConfigError(
                f"unknown parameter '{name}'; there are {', '.join((*_TYPEABLE, *_OLLAMA_NAMES))}"
            )
        typed: Any = tuple(values) if ours == "stop" else " ".join(values)
        if ours == "max_tokens" and typed in ("-1", "-2"):
            self.parameters[ours] = None
            return
        try:
            parsed = msgspec.convert({ours: typed}, SamplingParams, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"couldn't set parameter '{name}': {error}") from error
        self.parameters[ours] = getattr(parsed, ours)

    def set_think(self, value: str) -> None:
        """true, false or a level. Raises ConfigError."""
        if value not in ("true", "false", *_LEVELS):
            raise ConfigError(f"think takes true, false, {', '.join(_LEVELS)}; got {value!r}")
        self.think = value

    def set_format(self, text: str) -> None:
        """ "json", or a JSON schema as text. Raises ConfigError."""
        if text == "json":
            self.form = StructuredOutputs(json_object=True)
        elif text.lstrip().startswith("{"):
            self.form = StructuredOutputs(json=text)
        else:
            raise ConfigError(f"format takes json or a JSON schema; got {text!r}")

    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template is told about thinking; templates differ in the name they read."""
        if self.think is None:
            return {}
        thinks = self.think != "false"
        level = {"reasoning_effort": self.think} if self.think in _LEVELS else {}
        return {"enable_thinking": thinks, "thinking": thinks, **level}
