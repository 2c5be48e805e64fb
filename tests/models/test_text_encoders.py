"""Encoders of text give the vectors and scores of transformers, alone and in batches, also as GGUF files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType

from tests.models.text_encoders import CONTEXT, TEXTS, cached, hidden, logits, sentences, write_gguf
from tutti import LLM, PoolingParams
from tutti.engine.planning import sketch_plan
from tutti.errors import CheckpointError, ContextOverflow, InvalidRequest
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.registry import find_graph
from tutti.settings import EngineOptions

RAW = PoolingParams(normalize=False)
PAIRS = [("What is it?", "A quick fox."), ("hello", "The lazy dog " * 4), ("a b c d e", "x")]


def load(path: Path, **options: object) -> LLM:
    return LLM(str(path), dtype="float32", threads=1, device="cpu", **options)


def vectors(llm: LLM, texts: list[str], wishes: PoolingParams = RAW) -> torch.Tensor:
    return torch.tensor([one.outputs.embedding for one in llm.embed(texts, pooling_params=wishes)])


@pytest.mark.parametrize("name", ["bert", "roberta", "nomic"])
def test_vectors_equal_transformers_alone_and_in_a_batch(name: str) -> None:
    llm = load(cached(name), max_num_batched_tokens=50)  # so that the texts take several steps
    expected = torch.stack([hidden(name, text).mean(0) for text in TEXTS])
    together = vectors(llm, TEXTS)
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-5)
    alone = torch.cat([vectors(llm, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert llm.engine.loop.stats.steps["encoder"].count > len(TEXTS) + 1
    torch.testing.assert_close(
        vectors(llm, TEXTS, PoolingParams()), F.normalize(expected), rtol=1e-5, atol=1e-5
    )
    assert llm.engine.stats().waiting == 0 and not llm.engine.loop.runners["encoder"]._queue


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls_token", lambda rows: rows[0]),
        ("lasttoken", lambda rows: rows[-1]),
        ("max_tokens", lambda rows: rows.amax(0)),
        ("mean_tokens", lambda rows: rows.mean(0)),
    ],
)
def test_each_way_of_pooling_is_the_one_that_the_folder_names(
    tmp_path: Path, pooling: str, expected: object
) -> None:
    llm = load(sentences("bert", tmp_path / "one", pooling))
    wanted = torch.stack([expected(hidden("bert", text)) for text in TEXTS])  # type: ignore[operator]
    torch.testing.assert_close(vectors(llm, TEXTS, PoolingParams()), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["cross", "cross-roberta"])
def test_scores_of_pairs_equal_transformers(name: str) -> None:
    llm = load(cached(name))
    scores = check_scores(llm, name)
    one_to_all = [one.outputs.score for one in llm.score("hello", [second for _, second in PAIRS])]
    assert one_to_all[1] == pytest.approx(scores[1].item(), abs=1e-6)


def check_scores(llm: LLM, name: str) -> torch.Tensor:
    """The scores of all pairs, which equal those that transformers gives of the checkpoint `name`."""
    expected = torch.cat([logits(name, *pair) for pair in PAIRS])
    firsts, seconds = ([pair[side] for pair in PAIRS] for side in (0, 1))
    raw = llm.score(firsts, seconds, pooling_params=PoolingParams(use_activation=False))
    torch.testing.assert_close(
        torch.tensor([one.outputs.score for one in raw]), expected, rtol=1e-5, atol=1e-5
    )
    scores = torch.tensor([one.outputs.score for one in llm.score(firsts, seconds)])
    torch.testing.assert_close(scores, expected.sigmoid(), rtol=1e-5, atol=1e-6)
    return scores


def test_a_model_of_classes_gives_their_probabilities_and_scores_no_pairs() -> None:
    llm = load(cached("classes"))
    (found,) = llm.encode("hello")
    assert found.outputs.data.shape == (3,) and found.outputs.data.sum().item() == pytest.approx(1)
    with pytest.raises(InvalidRequest, match="tells 3 classes apart"):
        llm.score("hello", "you")


def test_a_cross_encoder_without_an_activation_gives_logits(tmp_path: Path) -> None:
    for file in cached("cross").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (found,) = load(tmp_path).score(*PAIRS[0])
    assert found.outputs.score == pytest.approx(logits("cross", *PAIRS[0]).item(), abs=1e-5)


def test_two_texts_are_compared_by_their_vectors_where_a_model_makes_these() -> None:
    llm = load(cached("bert"))
    first, second = vectors(llm, ["hello", "a b"], PoolingParams())
    (found,) = llm.score("hello", "a b")
    assert found.outputs.score == pytest.approx(float(first @ second), abs=1e-6)


def test_what_is_too_long_is_refused_or_cut_with_its_marks() -> None:
    llm = load(cached("bert"))
    text = "the lazy dog " * 40
    with pytest.raises(ContextOverflow, match=rf"takes {CONTEXT} tokens"):
        llm.embed(text)
    (cut,) = llm.embed(text, pooling_params=PoolingParams(truncate_prompt_tokens=-1))
    whole = llm.processor.tokenizer.encode(text)
    assert cut.prompt_token_ids == [*whole[: CONTEXT - 1], whole[-1]]
    (short,) = llm.embed(text, pooling_params=PoolingParams(truncate_prompt_tokens=5))
    assert short.prompt_token_ids == [*whole[:4], whole[-1]]
    with pytest.raises(ContextOverflow, match="leave no room"):
        llm.embed(text, pooling_params=PoolingParams(truncate_prompt_tokens=2))
    with pytest.raises(InvalidRequest, match="vectors have 48 numbers"):
        llm.embed("x", pooling_params=PoolingParams(dimensions=49))
    with pytest.raises(InvalidRequest, match="outside the vocabulary"):
        llm.embed([5, 10_000])
    with pytest.raises(InvalidRequest, match="gives embedding, not text"):
        llm.generate("hello")


def test_a_pair_that_is_too_long_loses_the_end_of_its_longer_text() -> None:
    llm = load(cached("cross"))
    wishes = PoolingParams(truncate_prompt_tokens=-1)
    (found,) = llm.score("hello", "the lazy dog " * 40, pooling_params=wishes)
    backend = llm.processor.tokenizer.backend
    first = backend.encode("hello", add_special_tokens=False).ids
    assert len(found.prompt_token_ids) == CONTEXT
    assert found.prompt_token_ids[1 : 1 + len(first)] == first


def test_dimensions_cut_a_vector_before_it_is_normalized() -> None:
    llm = load(cached("bert"))
    whole = vectors(llm, ["hello"])[0]
    cut = vectors(llm, ["hello"], PoolingParams(dimensions=7))[0]
    torch.testing.assert_close(cut, F.normalize(whole[:7], dim=0), rtol=1e-5, atol=1e-6)


def test_int8_weights_give_nearly_the_same_vectors() -> None:
    plain, quantized = (vectors(load(cached("bert"), quantization=how), TEXTS) for how in (None, "int8"))
    assert F.cosine_similarity(plain, quantized).min() > 0.99


def test_the_memory_plan_counts_the_longest_text_and_no_cache() -> None:
    checkpoint = open_checkpoint(cached("bert"))
    options = EngineOptions(model=str(checkpoint.path), dtype="float32", max_num_batched_tokens=10)
    plan = sketch_plan(
        checkpoint, find_graph(checkpoint.config), options, torch.device("cpu"), available=4 * 10**9
    )
    assert plan.fits and not plan.blocks
    assert [row.name for row in plan.rows] == ["weights", "activations", "runtime"]
    assert plan.rows[1].bytes == CONTEXT * (6 * 48 + 3 * 80) * 4


@pytest.mark.parametrize("pooling", ["weightedmean_tokens", "mean_tokens+cls"])
def test_a_pooling_that_is_not_known_is_named(tmp_path: Path, pooling: str) -> None:
    folder = sentences("bert", tmp_path / "one", "mean_tokens")
    settings = {"pooling_mode_weightedmean_tokens": True}
    if "+" in pooling:
        settings = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"pooling by .* is not supported"):
        load(folder)


# --- GGUF -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "nomic", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", [1, 2])
def test_a_gguf_file_gives_the_vectors_of_its_safetensors(tmp_path: Path, name: str, pooling: int) -> None:
    file = write_gguf(cached(name), tmp_path / "model.gguf", pooling=pooling)
    rows = [hidden(name, text) for text in TEXTS]
    expected = torch.stack([one.mean(0) if pooling == 1 else one[0] for one in rows])
    torch.testing.assert_close(vectors(load(file), TEXTS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "least"), [("F16", 0.99999), ("Q8_0", 0.999)])
def test_a_gguf_file_of_few_bits_gives_nearly_the_same_vectors(
    tmp_path: Path, kind: str, least: float
) -> None:
    file = write_gguf(cached("bert"), tmp_path / "model.gguf", GGMLQuantizationType[kind])
    expected = torch.stack([hidden("bert", text).mean(0) for text in TEXTS])
    assert F.cosine_similarity(vectors(load(file), TEXTS), expected).min() > least


@pytest.mark.parametrize("name", ["cross-roberta", "cross-xlm-roberta"])
def test_a_gguf_file_of_a_reranker_gives_the_scores_of_its_safetensors(tmp_path: Path, name: str) -> None:
    check_scores(load(write_gguf(cached(name), tmp_path / "model.gguf", pooling=4)), name)


def test_a_reranker_without_all_of_its_head_is_refused_as_gguf(tmp_path: Path) -> None:
    file = write_gguf(cached("bert"), tmp_path / "model.gguf", pooling=4)
    with pytest.raises(CheckpointError, match="whose head is not whole"):
        open_checkpoint(file)
