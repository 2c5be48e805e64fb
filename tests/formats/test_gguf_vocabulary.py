"""Tokenizers in GGUF files: what transformers builds from them encodes as the original does."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
import transformers

from tests.formats.gguf_files import NASTY, byte_level, metadata, sentencepiece
from tutti.errors import CheckpointError
from tutti.formats.gguf.convert import convert
from tutti.formats.gguf.export.sentencepiece import Piece, read_pieces
from tutti.formats.gguf.export.vocabulary import _SPLITS
from tutti.formats.gguf.mixes import find_mix

PATTERNS = {name: pattern for pattern, name in _SPLITS.items()} | {"gpt-2": None}


def written(folder: Path) -> Path:
    convert(folder, folder / "model.gguf", find_mix("q8_0"))
    return folder / "model.gguf"


def same_tokens(folder: Path) -> bool:
    """Whether the tokenizer that transformers builds from the file equals the one in the folder."""
    original = transformers.AutoTokenizer.from_pretrained(folder)
    rebuilt = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    pairs = [
        (
            original(text, add_special_tokens=False).input_ids,
            rebuilt(text, add_special_tokens=False).input_ids,
        )
        for text in NASTY
    ]
    return all(ours == theirs for ours, theirs in pairs)


@pytest.mark.parametrize("name", PATTERNS)
def test_byte_level_tokenizers_are_written_with_the_name_of_their_splitting(
    name: str, tmp_path: Path
) -> None:
    file = written(byte_level(tmp_path / "model", PATTERNS[name], bos=name == "llama-bpe"))
    values = metadata(file)
    original = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    assert values["tokenizer.ggml.model"] == "gpt2"
    assert values["tokenizer.ggml.pre"] == name
    tokens = original["model"]["vocab"]
    assert all(values["tokenizer.ggml.tokens"][number] == token for token, number in tokens.items())
    assert [tuple(m.split(" ")) for m in values["tokenizer.ggml.merges"]] == [
        tuple(m) for m in original["model"]["merges"]
    ]
    assert values["tokenizer.ggml.token_type"][-1] == 5  # padded to the embedding's rows
    assert values["tokenizer.ggml.add_bos_token"] is (name == "llama-bpe")
    assert values["tokenizer.ggml.bos_token_id"] == tokens["<s>"]
    assert values["tokenizer.ggml.eos_token_ids"] == [1, 3]


def test_transformers_rebuilds_a_byte_level_tokenizer(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "model", PATTERNS["llama-bpe"])
    written(folder)
    assert same_tokens(folder)


def test_transformers_rebuilds_a_sentencepiece_tokenizer(tmp_path: Path) -> None:
    folder = sentencepiece(tmp_path / "model")
    values = metadata(written(folder))
    assert values["tokenizer.ggml.model"] == "llama"
    assert values["tokenizer.ggml.token_type"][:3] == [2, 6, 6]  # <unk>, <0x00>, <0x01>
    assert values["tokenizer.ggml.add_space_prefix"] is True
    scores = values["tokenizer.ggml.scores"]
    merged = json.loads((folder / "tokenizer.json").read_text())["model"]
    ranks = [scores[merged["vocab"]["".join(pair)]] for pair in merged["merges"]]
    assert ranks == [-float(n) for n in range(len(ranks))]
    assert same_tokens(folder)


def test_an_unknown_splitting_of_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="would tokenize wrongly"):
        written(byte_level(tmp_path / "model", r"\w+|\W+"))


def message(fields: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A protocol-buffer message: (number, form, body), lengths added where the form has them."""
    return b"".join(
        bytes([number << 3 | form]) + (varint(len(body)) if form == 2 else b"") + body
        for number, form, body in fields
    )


def varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


def test_a_sentencepiece_models_own_scores_are_taken(tmp_path: Path) -> None:
    pieces = [
        Piece("<unk>", 0.0, 2),
        Piece("<s>", 0.0, 3),
        Piece("▁the", -1.5, 1),
        Piece("x" * 200, -2.25, 1),
    ]
    data = message(
        (
            1,
            2,
            message([(1, 2, p.text.encode()), (2, 5, struct.pack("<f", p.score)), (3, 0, bytes([p.kind]))]),
        )
        for p in pieces
    ) + message([(2, 2, b"trainer"), (9, 0, varint(1 << 40)), (10, 1, bytes(8))])
    file = tmp_path / "tokenizer.model"
    file.write_bytes(data)
    assert read_pieces(file) == pieces
    for damaged in (data[:-30], b"\xff" * 20, b"", b"not a message at all"):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a SentencePiece model"):
            read_pieces(file)
