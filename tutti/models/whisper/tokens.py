"""Whisper's special tokens: what a prompt is made of, and which tokens are times. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import InvalidRequest
from tutti.models.processor.files import read_json
from tutti.models.reading import Config, require


@dataclass(frozen=True, slots=True)
class SpeechTokens:
    """Ids of special tokens.

    `languages` by their codes ("en") and `tasks` by their names are empty in models that hear English only. Times begin
    behind `no_timestamps`, one for every row of the encoder (20 ms). `latest_first` bounds the first time of a window,
    counted from its beginning. `suppressed` never come, `suppressed_first` not as the first.
    """

    start: int
    end: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    no_timestamps: int | None
    previous: int | None
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    latest_first: int | None = None

    @property
    def first_time(self) -> int:
        """The token of the time 0; beyond every vocabulary where the model has no times."""
        return (1 << 40) if self.no_timestamps is None else self.no_timestamps + 1

    @property
    def nobody(self) -> int | None:
        """The token that says that nobody speaks, where the prompt is the start token alone; None if that is whole."""
        return None if self.no_timestamps is None or not self.tasks else self.no_timestamps - 1

    def prompt(
        self, language: str | None, task: str, timestamps: bool, before: Sequence[int] = ()
    ) -> list[int]:
        """The decoder's prompt; `before` are tokens of text that came before. Raises InvalidRequest."""
        head = [self.previous, *before] if before and self.previous is not None else []
        prompt = [*head, self.start]
        if self.languages:
            prompt += [self.language(language or "en"), self.task(task)]
        elif task != "transcribe" or language not in (None, "en"):
            raise InvalidRequest(
                "this model hears and writes English only; it cannot translate", param="language"
            )
        if not timestamps and self.no_timestamps is not None:
            prompt.append(self.no_timestamps)
        return prompt

    def language(self, code: str) -> int:
        """The token of a language. Raises InvalidRequest naming those there are."""
        token = self.languages.get(code.lower())
        if token is None:
            known = ", ".join(sorted(self.languages))
            raise InvalidRequest(
                f"the model does not know the language {code!r}; it knows {known}", param="language"
            )
        return token

    def task(self, name: str) -> int:
        """The token of a task. Raises InvalidRequest."""
        if name not in self.tasks:
            raise InvalidRequest(f"the model cannot {name}; it can {', '.join(sorted(self.tasks))}")
        return self.tasks[name]

    def whole(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt asks for words, and not only what may stand in their place (a language, silence)."""
        if self.start not in prompt:
            return False
        return not self.tasks or any(task in self._said(prompt) for task in self.tasks.values())

    def wants_times(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt asks for timestamps: it is whole, and does not forbid them."""
        if self.no_timestamps is None or not self.whole(prompt):
            return False
        return self.no_timestamps not in self._said(prompt)

    def _said(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt from its start token on."""
        return prompt[len(prompt) - 1 - list(reversed(prompt)).index(self.start) :]


def read_tokens(folder: Path, config: Config) -> SpeechTokens:
    """The tokens that generation_config.json names, else config.json. Raises CheckpointError."""
    found = _generation(folder, config)
    end = found.get("eos_token_id", config.get("eos_token_id"))
    multilingual = found.get("is_multilingual", True)
    languages = found.get("lang_to_id") or {} if multilingual else {}
    return SpeechTokens(
        start=found.get("decoder_start_token_id") or require(config, "decoder_start_token_id"),
        end=end[0] if isinstance(end, list) else int(end or 0),
        languages={name.strip("<|>"): token for name, token in languages.items()},
        tasks=found.get("task_to_id") or {} if multilingual else {},
        no_timestamps=found.get("no_timestamps_token_id"),
        previous=found.get("prev_sot_token_id"),
        suppressed=tuple(found.get("suppress_tokens") or ()),
        suppressed_first=tuple(found.get("begin_suppress_tokens") or ()),
        latest_first=found.get("max_initial_timestamp_index"),
    )


def alignment_heads(folder: Path, config: Config) -> tuple[tuple[int, int], ...]:
    """(layer, head) of the decoder's attention that follow the voice.

    Where generation_config.json does not name them, all heads of the upper half of the layers (OpenAI's way).
    """
    named = _generation(folder, config).get("alignment_heads")
    if named:
        return tuple((int(layer), int(head)) for layer, head in named)
    layers, heads = require(config, "decoder_layers"), require(config, "decoder_attention_heads")
    return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))


def _generation(folder: Path, config: Config) -> Mapping[str, Any]:
    """generation_config.json; older checkpoints have it all in config.json."""
    file = folder / "generation_config.json"
    return read_json(file) if file.exists() else config
