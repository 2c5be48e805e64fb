"""WordPiece (Wu et al. 2016) in a GGUF file: words cut into the longest pieces that the vocabulary has. No torch.

Files mark a piece that begins a word by a space of SentencePiece's, where the original marks those that go on in one
with "##". Whether capitals are kept they do not say: a vocabulary without any has none to keep.
"""

from __future__ import annotations

import re
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.tokens import CONTROL, UNKNOWN, USER, Vocabulary

SPACE = "▁"
GOES_ON = "##"
_RESERVED = re.compile(
    r"\[[^\[\]]+\]|<(s|/s|unk|pad|mask)>"
)  # by their looks, whatever their kind: [CLS], [unused7]
_LONGEST = 100  # characters of a word that is not unknown for its length


def word_piece(keys: Keys, vocabulary: Vocabulary, added: list[dict[str, Any]]) -> dict[str, Any]:
    """The tokenizer.json. Raises CheckpointError when the marks at a text's ends are missing."""
    ids = pieces(vocabulary)
    lowercase = not any(_capital(piece) for piece in ids)
    unknown = _mark(keys, vocabulary, ("unknown",), "[UNK]", ids)
    first = _mark(keys, vocabulary, ("bos", "cls"), "[CLS]", ids)
    last = _mark(keys, vocabulary, ("seperator", "eos"), "[SEP]", ids)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _reserved(vocabulary, added, ids),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _around(first, last, ids),
        "decoder": {"type": "WordPiece", "prefix": GOES_ON, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": GOES_ON,
            "max_input_chars_per_word": _LONGEST,
            "vocab": ids,
        },
    }


def pieces(vocabulary: Vocabulary) -> dict[str, int]:
    """The pieces as WordPiece writes them, with their ids; of pieces that are alike the first counts."""
    found: dict[str, int] = {}
    for token, text in enumerate(vocabulary.tokens):
        found.setdefault(_piece(text, vocabulary.kind(token)), token)
    return found


def _piece(text: str, kind: float) -> str:
    plain = text.removeprefix(SPACE)
    if kind in (UNKNOWN, CONTROL, USER) or _RESERVED.fullmatch(text):
        return text
    if text.startswith(SPACE) and plain:
        return plain
    return GOES_ON + text


def _capital(piece: str) -> bool:
    return _RESERVED.fullmatch(piece) is None and any("A" <= letter <= "Z" for letter in piece)


def _mark(keys: Keys, vocabulary: Vocabulary, names: tuple[str, ...], usual: str, ids: dict[str, int]) -> str:
    """The token that one of the file's keys names, or the one that has the usual name. Raises CheckpointError."""
    for name in names:
        token = keys.whole(f"tokenizer.ggml.{name}_token_id")
        if token is not None and token < len(vocabulary.tokens):
            return _piece(vocabulary.tokens[token], vocabulary.kind(token))
    if usual not in ids:
        raise CheckpointError(
            f"{keys.file.path}: the vocabulary has no {usual}; name a tokenizer with --tokenizer"
        )
    return usual


def _reserved(
    vocabulary: Vocabulary, added: list[dict[str, Any]], ids: dict[str, int]
) -> list[dict[str, Any]]:
    """Tokens that are found in a text as they stand: those of the file, and the marks that older files do not tell."""
    known = {one["content"] for one in added}
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    more = [
        {"id": ids[mark], "content": mark, **plain} for mark in marks if mark in ids and mark not in known
    ]
    return sorted([*added, *more], key=lambda one: int(one["id"]))


def _around(first: str, last: str, ids: dict[str, int]) -> dict[str, Any]:
    """What puts the marks around a text, and around the two of a pair."""
    mark = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in (first, last)}
    later = {"SpecialToken": {"id": last, "type_id": 1}}
    one = [mark[first], {"Sequence": {"id": "A", "type_id": 0}}, mark[last]]
    return {
        "type": "TemplateProcessing",
        "single": one,
        "pair": [*one, {"Sequence": {"id": "B", "type_id": 1}}, later],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (first, last)
        },
    }
