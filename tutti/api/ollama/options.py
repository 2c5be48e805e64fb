"""`options`: Ollama's names, types and defaults, as sampling parameters.

What is said counts, then what the checkpoint recommends, then Ollama's defaults.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutti.errors import InvalidRequest
from tutti.request import SamplingParams, StructuredOutputs

log = logging.getLogger(__name__)

MAX_LOGPROBS = 20

_INTEGER, _FLOAT, _BOOLEAN, _ARRAY = "integer", "float32", "boolean", "array"
_TYPES = {
    "num_keep": _INTEGER,
    "seed": _INTEGER,
    "num_predict": _INTEGER,
    "top_k": _INTEGER,
    "top_p": _FLOAT,
    "min_p": _FLOAT,
    "typical_p": _FLOAT,
    "repeat_last_n": _INTEGER,
    "temperature": _FLOAT,
    "repeat_penalty": _FLOAT,
    "presence_penalty": _FLOAT,
    "frequency_penalty": _FLOAT,
    "stop": _ARRAY,
    # How a model is loaded: here the server's own flags decide that.
    "num_ctx": _INTEGER,
    "num_batch": _INTEGER,
    "num_gpu": _INTEGER,
    "main_gpu": _INTEGER,
    "use_mmap": _BOOLEAN,
    "num_thread": _INTEGER,
}
_DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
_WINDOW = 64  # `repeat_last_n` where it is not said; 0 turns the penalties off, -1 looks at everything
_EVERYTHING = 2**31 - 1
_KEEP = 4  # `num_keep` where it is not said
_PENALTIES = ("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty")
_SAME_NAME = ("temperature", "min_p", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a request, checked. `context` is None where the model's own counts."""

    given: dict[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Options:
        """The options that are known; others are logged and left out. Raises InvalidRequest in Ollama's words."""
        found = {}
        for name, value in (given or {}).items():
            if name not in _TYPES:
                log.warning("invalid option provided: %s", name[:80])
            elif value is not None:
                found[name] = _checked(name, value)
        if 0 < found.get("typical_p", 1.0) < 1:
            raise InvalidRequest('option "typical_p" is not supported: leave it out', param="options")
        return cls(found)

    @property
    def context(self) -> int | None:
        """`num_ctx`, in tokens."""
        size: int = self.given.get("num_ctx", 0)
        return size if size > 0 else None

    @property
    def answer(self) -> int | None:
        """`num_predict`: how long the answer may be, in tokens; None: until the context is full."""
        count: int = self.given.get("num_predict", -1)
        return count if count > 0 else None

    @property
    def keep(self) -> int | None:
        """`num_keep`: how many of the first tokens stay when a full context loses its older half; None: the prompt."""
        count: int = self.given.get("num_keep", _KEEP)
        return count if count >= 0 else None

    @property
    def values(self) -> dict[str, Any]:
        """What is said of sampling, by the names of `SamplingParams`; the answer's length is `answer`."""
        found: dict[str, Any] = {name: self.given[name] for name in _SAME_NAME if name in self.given}
        found |= self._filters()
        if "repeat_penalty" in self.given:
            found["repetition_penalty"] = self.given["repeat_penalty"]
        if not self.given.keys().isdisjoint(_PENALTIES):
            window: int = self.given.get("repeat_last_n", _WINDOW)
            found["penalty_window"] = window if window > 0 else _EVERYTHING
            if window == 0:
                found |= {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        if self.given.get("seed", -1) != -1:
            found["seed"] = self.given["seed"]
        stop = tuple(one for one in self.given.get("stop", ()) if one)
        return found | ({"stop": stop} if stop else {})

    def sampling(
        self,
        recommended: Mapping[str, Any],
        *,
        logprobs: int | None,
        form: StructuredOutputs | None,
        skip_special_tokens: bool,
    ) -> SamplingParams:
        """The parameters; `recommended` are the checkpoint's. Raises InvalidRequest."""
        values = _DEFAULTS | {"penalty_window": _WINDOW} | dict(recommended) | self.values
        return SamplingParams(
            **values | {"max_tokens": self.answer},
            logprobs=logprobs,
            structured_outputs=form,
            skip_special_tokens=skip_special_tokens,
        )

    def _filters(self) -> dict[str, Any]:
        """`top_k` and `top_p`, of which Ollama takes any number: 0 and less leave one token, or all of them."""
        found: dict[str, Any] = {}
        if "top_k" in self.given:
            found["top_k"] = max(self.given["top_k"], 0)
        if "top_p" in self.given:
            found["top_p"] = min(self.given["top_p"], 1.0)
            if found["top_p"] <= 0:
                found |= {"top_p": 1.0, "top_k": 1}
        return found


def _checked(name: str, value: Any) -> Any:
    """`value` as the option's type has it. Raises InvalidRequest in Ollama's words."""
    kind = _TYPES[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == _INTEGER and number:
        return int(value)
    if kind == _FLOAT and number:
        return float(value)
    if kind == _BOOLEAN and isinstance(value, bool):
        return value
    if kind == _ARRAY and isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise InvalidRequest(f'option "{name}" must be of an array of strings', param=name)
        return value
    raise InvalidRequest(f'option "{name}" must be of type {kind}', param=name)
