"""What the talker begins with: a column of codes, and beside it the rows of the text.

codes   .  .  .         .  .  .   think ... speaker  pad   pad pad ... pad  pad   bos   | frames ...
rows    instructions    role      pad   ... pad      bos   the text ...     end   pad   | pad ...
                                                                                  ^ the first frame is next
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.errors import InvalidRequest
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_tts.config import codes, voices
from tutti.models.reading import Config, require
from tutti.request import Request, Tokens

SIGNS = ("bos", "eos", "pad")  # of the text: tts_*_token_id
_ROLE = 3  # tokens that open the assistant's turn
_LANGUAGES = {
    "zh": "chinese", "en": "english", "ja": "japanese", "ko": "korean", "de": "german", "fr": "french",
    "ru": "russian", "pt": "portuguese", "es": "spanish", "it": "italian",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts, by what config.json says."""

    special: Mapping[str, int]
    voices: Mapping[str, int]
    dialects: Mapping[str, Any]  # of voices: the language they speak instead of Chinese, or False
    languages: Mapping[str, int]
    opening: int  # the token that begins a turn
    blank: int  # beside rows without a code

    @classmethod
    def of(cls, config: Config) -> Prompts:
        """The prompts of a checkpoint. Raises CheckpointError."""
        section = part(config, "talker_config")
        special, known = codes(config), voices(config)
        languages = section.get("codec_language_id") or {}
        used = {*special.values(), *known.values(), *languages.values()}
        blank = max(set(range(int(require(section, "vocab_size")))) - used)
        dialects = section.get("spk_is_dialect") or {}
        return cls(special, known, dialects, languages, int(require(config, "im_start_token_id")), blank)

    def codes(self, request: Request) -> list[int]:
        """The column of codes. Raises InvalidRequest on a voice or a language that is not there."""
        ids, head = self._text(request)
        special = self.special
        speaker = self._speaker(request.voice)
        said = [] if speaker is None else [self.voices[speaker]]
        text = [special["pad_id"]] * (len(ids) - head + 1)
        manner = [*self._manner(request.language, speaker), *said, special["pad_id"]]
        return [self.blank] * head + manner + text + [special["bos_id"]]

    def rows(self, request: Request, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows beside the column, and the row beside all frames; `rows` are the text's and those of `SIGNS`."""
        ids, head = self._text(request)
        begin, end, silence = rows[len(ids) :].split(1)
        speaker = self._speaker(request.voice)
        manner = len(self._manner(request.language, speaker)) + (speaker is not None)
        pieces = (rows[:head], silence.expand(manner, -1), begin, rows[head : len(ids)], end, silence)
        return torch.cat(pieces), silence

    def _text(self, request: Request) -> tuple[tuple[int, ...], int]:
        """The prompt's tokens, and where the text begins."""
        ids = tuple(token for one in request.parts if isinstance(one, Tokens) for token in one.ids)
        if self.opening not in ids:
            raise InvalidRequest("this model reads texts aloud; it takes no other prompt", param="prompt")
        return ids, len(ids) - ids[::-1].index(self.opening) - 1 + _ROLE

    def _speaker(self, voice: str | None) -> str | None:
        """The voice's name as config.json has it; None for a model whose voice is described."""
        if voice is None:
            return next(iter(self.voices), None)
        found = next((name for name in self.voices if name.lower() == voice.lower()), None)
        if found is None:
            known = f"this model has {', '.join(self.voices)}"
            if not self.voices:
                known = "this model has none of its own: leave it out, and describe one in the instructions"
            raise InvalidRequest(f"there is no voice {voice!r}; {known}", param="voice")
        return found

    def _manner(self, language: str | None, speaker: str | None) -> list[int]:
        """The codes that tell the language, or that it is not told."""
        special = self.special
        name = _LANGUAGES.get((language or "auto").lower(), (language or "auto").lower())
        dialect = self.dialects.get(speaker) if speaker is not None else None
        if dialect and name in ("auto", "chinese"):
            name = str(dialect)
        if name == "auto":
            return [special["nothink_id"], special["think_bos_id"], special["think_eos_id"]]
        if name not in self.languages:
            known = ", ".join(one for one in self.languages if "dialect" not in one)
            raise InvalidRequest(
                f"there is no language {language!r}; this model has {known}", param="language"
            )
        return [special["think_id"], special["think_bos_id"], self.languages[name], special["think_eos_id"]]
