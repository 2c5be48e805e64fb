"""Text to token ids and back: a checkpoint's tokenizer over the `tokenizers` library.

Owns the reading of tokenizer.json and the files beside it, and the limits on a text's length. tokenizer.json is the
authority, as in transformers: its post-processor decides on begin and end tokens, and tokens that only
tokenizer_config.json or special_tokens_map.json name are added behind its own. Where transformers 5 rebuilds a file's
pipeline from the name of a tokenizer class (older Llama files), the file is followed. Incremental decoding is in
`stream`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from tutti.errors import CheckpointError, ContextOverflow, InvalidRequest
from tutti.hub.gguf import is_gguf
from tutti.models.processor.convert import convert_tokenizer
from tutti.models.processor.files import eos_ids, read_json, read_text
from tutti.models.processor.pieces import Pieces

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """One model's tokenizer.

    `special_tokens` maps names ("bos_token", ...) to tokens, for chat templates; `eos_ids` are the tokens that end an
    answer. Encoding and decoding release the interpreter lock.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: dict[str, str],
        eos_ids: frozenset[int] = frozenset(),
    ) -> None:
        # A file may say to cut or pad what it encodes (training's needs). A prompt is neither cut nor padded.
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens = special_tokens
        self.pieces = Pieces(backend)
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(token for token, value in added.items() if value.special)
        self.bos_id = self._named_id("bos_token")
        eos = self._named_id("eos_token")
        self.eos_ids = eos_ids | ({eos} if eos is not None else set())

    def _named_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self.token_id(token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of `text`. Raises InvalidRequest when it holds half a surrogate pair."""
        try:
            # `encode` holds the interpreter lock and keeps offsets; this neither holds nor keeps.
            return self.backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        except (UnicodeEncodeError, TypeError) as error:
            raise InvalidRequest("the text is not valid Unicode: it holds half a surrogate pair") from error

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; ids outside the vocabulary add nothing. Raises InvalidRequest on a negative id."""
        if any(token < 0 or token >= 2**32 for token in ids):
            raise InvalidRequest("token ids must be between 0 and the vocabulary's size", param="tokens")
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token(self, token: int) -> str:
        """The vocabulary's own name of a token ("Ġhello"), or "" for an id outside it."""
        return self.backend.id_to_token(token) or ""

    def token_id(self, name: str) -> int | None:
        """The id of a token by its name, or None."""
        return self.backend.token_to_id(name)

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token adds to a text, as OpenAI's `logprobs.content[].bytes`; may be part of a character."""
        return self.pieces.inner(token)

    def token_text(self, token: int) -> str:
        """The text a token adds, as OpenAI's `logprobs.content[].token`; an incomplete character shows as U+FFFD."""
        return self.token_bytes(token).decode("utf-8", "replace")

    @cached_property
    def longest_token(self) -> int:
        """Bytes of the longest token; no token stands for more text than this (before normalization)."""
        byte_level = self.pieces.byte_level
        return max(len(name if byte_level else name.encode()) for name in self.backend.get_vocab())

    def check_length(self, text: str, context: int) -> None:
        """Refuses a text that `context` tokens cannot hold, without tokenizing it.

        Sound for tokenizers that keep every byte (byte-level and byte-fallback BPE); others may map any text to one
        unknown token, so nothing is refused. Raises ContextOverflow naming both numbers.
        """
        if len(text) <= context or not (self.pieces.byte_level or self.pieces.byte_fallback):
            return
        size = len(text.encode("utf-8", "replace"))
        # Unicode's composed forms take at least a third of the bytes of the decomposed ones.
        per_token = self.longest_token * (1 if self.backend.normalizer is None else 3)
        least = -(-size // per_token)
        if least > context:
            raise ContextOverflow(
                f"the prompt has {size:,} bytes, which is at least {least:,} tokens; "
                f"the context length is {context:,} tokens. Shorten the prompt"
            )


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of the checkpoint folder, or GGUF file, `path`.

    Raises CheckpointError saying which file is missing or wrong.
    """
    folder = Path(path)
    if not folder.is_dir() and not is_gguf(folder):
        raise CheckpointError(f"{folder} is not a folder with a tokenizer")
    text = read_text(folder / "tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_str(convert_tokenizer(folder) if text is None else text)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} is not a tokenizer: {error}; fetch it again"
        ) from error
    special = _complete(backend, folder)
    return Tokenizer(backend, special, eos_ids(folder, read_json(folder / "config.json")))


def _complete(backend: tokenizers.Tokenizer, folder: Path) -> dict[str, str]:
    """Adds the tokens that only the files beside tokenizer.json name; returns the named special tokens.

    The rules are those of transformers (`TokenizersBackend.__init__`): first the tokens that tokenizer_config.json
    lists by id (older folders: added_tokens.json), then special tokens that are still unknown, at the end.
    """
    config = read_json(folder / "tokenizer_config.json")
    listed = config.get("added_tokens_decoder")
    if listed is None:
        # Only folders of the older form keep these in files of their own, which then override the configuration.
        config |= read_json(folder / "special_tokens_map.json")
        listed = {str(index): token for token, index in read_json(folder / "added_tokens.json").items()}
    named = {key: content for key in _NAMED if (content := _content(config.get(key))) is not None}
    special = {
        content: value for value in _special_values(config) if (content := _content(value)) is not None
    }

    known = {repr(token) for token in backend.get_added_tokens_decoder().values()}
    wanted = [
        _added(listed[index], special=_content(listed[index]) in special) for index in sorted(listed, key=int)
    ]
    wanted = [token for token in wanted if repr(token) not in known]
    present = {token.content for token in backend.get_added_tokens_decoder().values()}
    present |= {token.content for token in wanted}
    wanted += [_added(value, special=True) for content, value in special.items() if content not in present]
    if wanted:
        backend.add_tokens(wanted)
    return named


def _special_values(config: dict[str, Any]) -> list[Any]:
    """Special tokens as the configuration gives them: named, of the model's own ("image_token"), in lists."""
    own = [key for key in config if key.endswith("_token") and key not in _NAMED]
    values = [config.get(key) for key in [*_NAMED, *own]]
    listed = config.get("extra_special_tokens", config.get("additional_special_tokens")) or []
    values += listed.values() if isinstance(listed, dict) else listed
    return values


def _content(value: object) -> str | None:
    """A token's text, which files give as a string or as an object with its flags."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _added(value: str | dict[str, Any], *, special: bool) -> tokenizers.AddedToken:
    if isinstance(value, str):
        return tokenizers.AddedToken(value, special=special, normalized=not special)
    flags = {
        key: bool(value[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in value
    }
    return tokenizers.AddedToken(value["content"], special=special or bool(value.get("special")), **flags)
