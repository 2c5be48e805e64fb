"""The tokenizer in a GGUF file, as the tokenizer.json that the `tokenizers` library reads. No torch.

Four kinds are known: byte-level BPE ("gpt2"), whose merges the file has, SentencePiece's BPE ("llama"), whose merges
follow from the tokens' scores, WordPiece ("bert"; see `wordpiece`) and unigrams ("t5"; see `unigram`).
"""

from __future__ import annotations

from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.splitting import BEGINS, COMPOSED, WAYS, WHOLE_WORDS
from tutti.formats.gguf.tokens import (
    BYTE,
    CONTROL,
    UNKNOWN,
    UNUSED,
    USER,
    Vocabulary,
    read_vocabulary,
)
from tutti.formats.gguf.unigram import marks, unigram
from tutti.formats.gguf.wordpiece import word_piece

Json = dict[str, Any]
SPACE = "▁"


def read_tokenizer(keys: Keys) -> Json:
    """The tokenizer. Raises CheckpointError for a kind, or a way to split, that is not known."""
    kind = keys.text("tokenizer.ggml.model")
    vocabulary = read_vocabulary(keys)
    match kind:
        case "gpt2":
            made = _byte_level(keys, vocabulary)
            begins = (keys.text("tokenizer.ggml.pre") or "default") in BEGINS
        case "llama":
            made = _sentence_piece(keys, vocabulary)
            begins = True
        case "bert":
            return word_piece(keys, vocabulary, _added(vocabulary))
        case "t5":
            return unigram(keys, vocabulary, _added(vocabulary))
        case _:
            raise CheckpointError(
                f"{keys.file.path}: the tokenizer is of the kind {kind!r}, which is not supported; known: gpt2, llama, "
                "bert, t5. Name another with --tokenizer"
            )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary),
        "post_processor": marks(keys, vocabulary)
        if keys.architecture == "bert"
        else _marks(keys, vocabulary, begins),
        **made,
    }


def _byte_level(keys: Keys, vocabulary: Vocabulary) -> Json:
    way = keys.text("tokenizer.ggml.pre") or "default"
    if way not in WAYS:
        raise CheckpointError(
            f"{keys.file.path}: text is split in the way {way!r} (tokenizer.ggml.pre), which is not known; "
            f"known: {', '.join(sorted(WAYS))}. Name another tokenizer with --tokenizer"
        )
    ids = _ids(vocabulary)
    halves = (_halves(merge) for merge in keys.strings("tokenizer.ggml.merges"))
    # What is not in the vocabulary can never be joined.
    merges = [(left, right) for left, right in halves if {left, right, left + right} <= ids.keys()]
    return {
        "normalizer": {"type": "NFC"} if way in COMPOSED else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": WAYS[way]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(ids, merges, ignore_merges=way in WHOLE_WORDS),
    }


def _halves(merge: str) -> tuple[str, str]:
    """The two tokens of a merge, which a space divides; the first may be a space itself."""
    left, _, right = merge[1:].partition(" ")
    return merge[:1] + left, right


def _sentence_piece(keys: Keys, vocabulary: Vocabulary) -> Json:
    """A text, and what follows a special token, begins with a space of the tokenizer's own unless the file says no."""
    if not vocabulary.scores:
        raise CheckpointError(f"{keys.file.path}: the vocabulary has no scores (tokenizer.ggml.scores)")
    prefixed = keys.flag("tokenizer.ggml.add_space_prefix")
    prefixed = True if prefixed is None else prefixed
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepended = [{"type": "Prepend", "prepend": SPACE}] if prefixed else []
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = keys.whole("tokenizer.ggml.unknown_token_id")
    known = unknown is not None and unknown < len(vocabulary.tokens)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepended, spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(
            _ids(vocabulary),
            _merges(vocabulary),
            unk_token=vocabulary.tokens[unknown] if known and unknown is not None else None,
            fuse_unk=True,
            byte_fallback=BYTE in vocabulary.kinds,
        ),
    }


def _merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every way in which a token is two others, best score first: the order in which SentencePiece joins them.

    Where scores are alike, as those of tokens that users defined, longer ones go first, as in transformers' conversion.
    """
    joined = {
        text: vocabulary.scores[token]
        for token, text in enumerate(vocabulary.tokens)
        if vocabulary.kind(token) not in (UNKNOWN, CONTROL, UNUSED, BYTE)
    }
    found = [
        (-score, -at, at - len(text), text)
        for text, score in joined.items()
        for at in range(1, len(text))
        if text[:at] in joined and text[at:] in joined
    ]
    found.sort()
    return [(text[:-left], text[-left:]) for _, left, _, text in found]


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    """The tokens' ids; of tokens that are alike the first counts."""
    ids: dict[str, int] = {}
    for token, text in enumerate(vocabulary.tokens):
        ids.setdefault(text, token)
    return ids


def _bpe(ids: dict[str, int], merges: list[tuple[str, str]], **more: Any) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": ids,
        "merges": merges,
        **more,
    }


def _added(vocabulary: Vocabulary) -> list[Json]:
    """Tokens that are found in a text as they stand; those that are no text are special."""
    return [
        {
            "id": token,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": vocabulary.kind(token) != USER,
        }
        for token, text in enumerate(vocabulary.tokens)
        if text and vocabulary.kind(token) in (UNKNOWN, CONTROL, USER)
    ]


def _marks(keys: Keys, vocabulary: Vocabulary, begins: bool) -> Json | None:
    """What puts marks around a text: a begin unless the file says otherwise where `begins`, an end if it says so."""
    wanted = keys.flag("tokenizer.ggml.add_bos_token")
    first = keys.whole("tokenizer.ggml.bos_token_id") if (begins if wanted is None else wanted) else None
    last = keys.whole("tokenizer.ggml.eos_token_id") if keys.flag("tokenizer.ggml.add_eos_token") else None
    count = len(vocabulary.tokens)
    before, after = ([token] if token is not None and token < count else [] for token in (first, last))
    if not before and not after:
        return None
    special = {
        vocabulary.tokens[token]: {
            "id": vocabulary.tokens[token],
            "ids": [token],
            "tokens": [vocabulary.tokens[token]],
        }
        for token in (*before, *after)
    }

    def around(*parts: str) -> list[Json]:
        marked: list[Json] = []
        for number, part in enumerate(parts):
            marked += [
                {"SpecialToken": {"id": vocabulary.tokens[token], "type_id": number}} for token in before
            ]
            marked.append({"Sequence": {"id": part, "type_id": number}})
            marked += [
                {"SpecialToken": {"id": vocabulary.tokens[token], "type_id": number}} for token in after
            ]
        return marked

    return {
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": around("A", "B"),
        "special_tokens": special,
    }
