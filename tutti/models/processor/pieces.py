"""What each token adds to the text, as bytes.

Every decoder of the `tokenizers` library that language models use is local: a token's bytes depend only on whether
the token is the first of the text (which may lose its leading space). So text can be assembled token by token,
without ever decoding a prefix again. The forms:

- byte-level BPE: a token's characters stand for bytes by GPT-2's alphabet;
- byte fallback (SentencePiece BPE): `<0xE4>` is one byte, other tokens are text with a sign for the space;
- all others (Metaspace, WordPiece, plain): text, found by decoding the token after another one.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: the printable character that stands for each of the 256 bytes (its `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update((chr(256 + offset), byte) for offset, byte in enumerate(others))
    return alphabet


def _decoder_kinds(decoder: Any) -> set[str]:
    """The types of decoder in `decoder`, sequences unfolded."""
    if decoder is None:
        return set()
    pending = [json.loads(decoder.__getstate__())]
    kinds = set()
    while pending:
        node = pending.pop()
        kinds.add(node["type"])
        pending.extend(node.get("decoders", ()))
    return kinds


class Pieces:
    """The bytes of each token of one tokenizer; an id outside the vocabulary adds nothing."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        kinds = _decoder_kinds(backend.decoder)
        self.byte_level = "ByteLevel" in kinds
        self.byte_fallback = "ByteFallback" in kinds
        self._backend = backend
        self._alphabet = byte_alphabet() if self.byte_level else {}
        self._anchor = self._find_anchor() if not self.byte_level else None
        self._inner: dict[int, bytes] = {}
        self._first: dict[int, bytes] = {}

    def inner(self, token: int) -> bytes:
        """What `token` adds after other text."""
        found = self._inner.get(token)
        if found is None:
            found = self._inner[token] = self._inner_of(token)
        return found

    def first(self, token: int) -> bytes:
        """What `token` adds at the start of a text."""
        found = self._first.get(token)
        if found is None:
            found = self._first[token] = self._first_of(token)
        return found

    def _find_anchor(self) -> tuple[int, str] | None:
        """A token that decodes to a word, and that word: what stands before a token to see its inner form."""
        for token in range(self._backend.get_vocab_size()):
            text = self._backend.decode([token], skip_special_tokens=False)
            if text.isalnum():
                return token, text
        return None

    def _byte(self, name: str) -> bytes | None:
        match = _BYTE_TOKEN.fullmatch(name) if self.byte_fallback else None
        return bytes([int(match[1], 16)]) if match else None

    def _inner_of(self, token: int) -> bytes:
        name = self._backend.id_to_token(token)
        if name is None:
            return b""
        if self.byte_level:
            # A name with a sign outside the alphabet (some added tokens) stands for itself, as in `tokenizers`.
            values = [self._alphabet.get(sign) for sign in name]
            known = [value for value in values if value is not None]
            return bytes(known) if len(known) == len(values) else name.encode()
        byte = self._byte(name)
        if byte is not None:
            return byte
        if self._anchor is None:
            return self._backend.decode([token], skip_special_tokens=False).encode()
        anchor, word = self._anchor
        return self._backend.decode([anchor, token], skip_special_tokens=False)[len(word) :].encode()

    def _first_of(self, token: int) -> bytes:
        if self.byte_level:
            return self.inner(token)
        text = self._backend.decode([token], skip_special_tokens=False)
        byte = self._byte(self._backend.id_to_token(token) or "")
        return byte if byte is not None and text else text.encode()
