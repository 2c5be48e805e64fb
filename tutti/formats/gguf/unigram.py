"""Tokenizers of RoBERTas in a GGUF file: XLM-RoBERTa's unigrams (Kudo 2018), and the marks around a text. No torch.

The file has the pieces with their scores and SentencePiece's table of characters. What it says of spaces depends on
the converter's age; all of these models were trained with words that begin with a space, whatever was between them.
"""

from __future__ import annotations

import base64
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.tokens import UNKNOWN, Vocabulary

Json = dict[str, Any]
SPACE = "▁"


def unigram(keys: Keys, vocabulary: Vocabulary, added: list[Json]) -> Json:
    """The tokenizer.json. Raises CheckpointError when scores, or the marks at a text's ends, are missing."""
    if not vocabulary.scores:
        raise CheckpointError(f"{keys.file.path}: the vocabulary has no scores (tokenizer.ggml.scores)")
    table = bytes(int(byte) & 0xFF for byte in keys.numbers("tokenizer.ggml.precompiled_charsmap"))
    characters = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    spaces = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": characters if table else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
        "post_processor": marks(keys, vocabulary),
        "decoder": spaces,
        "model": {
            "type": "Unigram",
            "unk_id": _unknown(keys, vocabulary),
            "vocab": [list(pair) for pair in zip(vocabulary.tokens, vocabulary.scores, strict=True)],
            "byte_fallback": False,
        },
    }


def marks(keys: Keys, vocabulary: Vocabulary) -> Json:
    """What puts RoBERTa's marks around a text, `<s> A </s>`, and around two, `<s> A </s> </s> B </s>`.

    Raises CheckpointError.
    """
    first = _mark(keys, vocabulary, ("bos", "cls"), "<s>")
    last = _mark(keys, vocabulary, ("eos", "seperator"), "</s>")
    begin, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in (first, last))
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, a, end],
        "pair": [begin, a, end, end, b, end],
        "special_tokens": {
            name: {"id": name, "ids": [vocabulary.tokens.index(name)], "tokens": [name]}
            for name in (first, last)
        },
    }


def _unknown(keys: Keys, vocabulary: Vocabulary) -> int:
    """The piece that stands for what no other covers. Raises CheckpointError."""
    found = keys.whole("tokenizer.ggml.unknown_token_id")
    if found is None:
        kinds = (token for token in range(len(vocabulary.tokens)) if vocabulary.kind(token) == UNKNOWN)
        found = next(kinds, None)
    if found is None or found >= len(vocabulary.tokens):
        raise CheckpointError(f"{keys.file.path}: the vocabulary has no piece for what is unknown")
    return found


def _mark(keys: Keys, vocabulary: Vocabulary, names: tuple[str, ...], usual: str) -> str:
    """The token that one of the file's keys names, or the one that has the usual name. Raises CheckpointError."""
    for name in names:
        token = keys.whole(f"tokenizer.ggml.{name}_token_id")
        if token is not None and token < len(vocabulary.tokens):
            return vocabulary.tokens[token]
    if usual not in vocabulary.tokens:
        raise CheckpointError(
            f"{keys.file.path}: the vocabulary has no {usual}; name a tokenizer with --tokenizer"
        )
    return usual
