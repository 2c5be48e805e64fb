"""XLM-RoBERTa's tokenizer rebuilt from a GGUF file gives the ids of the one that the file was made of."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from gguf import GGUFWriter
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from tests.models.gguf_files import finish
from tests.models.text_encoders import unigrams, write_unigrams
from tests.processor.small_tokenizers import CORPUS
from tests.processor.test_gguf_tokenizer import NASTY, noise
from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.reader import read_gguf
from tutti.formats.gguf.tokenizer import read_tokenizer

TEXTS = [*NASTY, "<s> is <pad> a mark </s>", "Émile ﬁne Ⅳ ㎞ İ ß", *noise(300)]


def charsmap() -> bytes:
    """SentencePiece's own table of characters, which XLM-RoBERTa has."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=made,
        vocab_size=300,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(made.getvalue())
    return bytes(model.normalizer_spec.precompiled_charsmap)


def rebuilt(original: Tokenizer, path: Path) -> Tokenizer:
    writer = GGUFWriter(path, "bert")
    write_unigrams(writer, original)
    finish(writer)
    return Tokenizer.from_str(json.dumps(read_tokenizer(Keys(read_gguf(path)))))


def test_ids_are_the_originals(tmp_path: Path) -> None:
    original = unigrams(charsmap())
    made = rebuilt(original, tmp_path / "x.gguf")
    for text in TEXTS:
        wanted = original.encode(text)
        assert made.encode(text).ids == wanted.ids, text
        assert made.decode(wanted.ids) == original.decode(wanted.ids)
    assert made.encode("one text", "and another").ids == original.encode("one text", "and another").ids


def test_a_vocabulary_without_scores_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "x.gguf", "bert")
    writer.add_tokenizer_model("t5")
    writer.add_token_list(["<s>", "</s>"])
    finish(writer)
    with pytest.raises(CheckpointError, match="no scores"):
        read_tokenizer(Keys(read_gguf(tmp_path / "x.gguf")))
