"""Folders of sentence-transformers give the vectors and scores that the package itself gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from tests.models.text_encoders import TEXTS, cached, sentences
from tutti import LLM, PoolingParams

CUT = PoolingParams(truncate_prompt_tokens=-1)  # as the package does
PROMPTS = {"query": "search for: ", "document": ""}


def vectors(path: Path, texts: list[str], wishes: PoolingParams = CUT) -> np.ndarray:
    llm = LLM(str(path), dtype="float32", threads=1, device="cpu")
    return np.array([one.outputs.embedding for one in llm.embed(texts, pooling_params=wishes)])


@pytest.mark.parametrize(
    ("name", "pooling", "modules"),
    [
        ("bert", "mean_tokens", ("Normalize",)),
        ("bert", "cls_token", ("Dense", "Normalize")),
        ("roberta", "mean_tokens", ()),
        ("bert", "max_tokens", ("Dense",)),
    ],
)
def test_vectors_equal_the_packages(
    tmp_path: Path, name: str, pooling: str, modules: tuple[str, ...]
) -> None:
    folder = sentences(name, tmp_path / "model", pooling, *modules, prompts=PROMPTS, limit=20)
    theirs = SentenceTransformer(str(folder), device="cpu")
    texts = [*TEXTS, "word " * 50]
    np.testing.assert_allclose(vectors(folder, texts), theirs.encode(texts), rtol=1e-4, atol=1e-5)
    asked = PoolingParams(truncate_prompt_tokens=-1, prompt="query")
    expected = theirs.encode(texts, prompt_name="query")
    np.testing.assert_allclose(vectors(folder, texts, asked), expected, rtol=1e-4, atol=1e-5)


def test_scores_equal_the_packages() -> None:
    pairs = [
        ("What is it?", "A quick fox."),
        ("hello", "The lazy dog " * 4),
        ("many words " * 60, "few " * 30),
    ]
    theirs = CrossEncoder(str(cached("cross")), device="cpu").predict(pairs)
    llm = LLM(str(cached("cross")), dtype="float32", threads=1, device="cpu")
    found = llm.score([pair[0] for pair in pairs], [pair[1] for pair in pairs], pooling_params=CUT)
    np.testing.assert_allclose([one.outputs.score for one in found], theirs, rtol=1e-4, atol=1e-5)
