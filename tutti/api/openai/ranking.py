"""`POST /v1/score` and `POST /v1/rerank`: how well texts answer others, in vLLM's shapes (Jina's and Cohere's)."""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.fields import MAX_PROMPTS
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.api.pooled import Pooled, pool
from tutti.errors import InvalidRequest
from tutti.gateway.lease import Lease
from tutti.gateway.scoring import Scoring
from tutti.request import PoolingParams


class RankingFields(msgspec.Struct, kw_only=True):
    """The fields that both endpoints have."""

    model: str | None = None
    truncate_prompt_tokens: int | None = None
    use_activation: bool | None = None
    activation: bool | None = None  # its older name
    priority: int | None = None

    @property
    def wishes(self) -> PoolingParams:
        """How scores are made. Raises InvalidRequest."""
        active = self.activation if self.use_activation is None else self.use_activation
        return PoolingParams(use_activation=active, truncate_prompt_tokens=self.truncate_prompt_tokens)


class ScoreFields(RankingFields, kw_only=True):
    """Two texts, a text and a list, or two lists; by either of three pairs of names."""

    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    data_1: str | list[str] | None = None
    data_2: str | list[str] | None = None

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """Both lists. Raises InvalidRequest."""
        for one, other in (("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2")):
            first, second = getattr(self, one), getattr(self, other)
            if first is not None and second is not None:
                return _listed(first), _listed(second)
        raise InvalidRequest("Give text_1 and text_2, or queries and documents.", param="text_1")


class DocumentFields(msgspec.Struct):
    """A document as an object."""

    text: str


class RerankFields(RankingFields, kw_only=True):
    """A query and what may answer it; `top_n` 0: all of them."""

    query: str
    documents: list[str | DocumentFields]
    top_n: int | None = None
    return_documents: bool | None = None


async def score(call: Call) -> ASGIApp:
    """A score for each pair."""
    fields = parse(call.body, ScoreFields)
    leased = await call.lease(fields.model)
    model = leased.model
    first, second = fields.sides
    name = _name(call, "score")
    scores, found = await _scores(call, leased, Scoring.of(first, second, model.outputs), fields, name)
    data = [answers.ScoreObject(number, value) for number, value in enumerate(scores)]
    usage = answers.Usage(found.tokens, 0, found.tokens)
    return json_response(answers.ScoreList(name, int(time.time()), model.name, data, usage))


async def rerank(call: Call) -> ASGIApp:
    """The documents, the best first."""
    fields = parse(call.body, RerankFields)
    leased = await call.lease(fields.model)
    model = leased.model
    if not fields.documents:
        raise InvalidRequest("documents must not be empty.", param="documents")
    if fields.top_n is not None and fields.top_n < 0:
        raise InvalidRequest(f"top_n must be 0 or more, got {fields.top_n}.", param="top_n")
    texts = [one if isinstance(one, str) else one.text for one in fields.documents]
    name = _name(call, "rerank")
    scores, found = await _scores(
        call, leased, Scoring.of([fields.query], texts, model.outputs), fields, name
    )
    order = sorted(range(len(texts)), key=lambda number: -scores[number])[: fields.top_n or None]
    shown = fields.return_documents is not False
    results = [
        answers.RankedDocument(number, answers.Document(texts[number]) if shown else UNSET, scores[number])
        for number in order
    ]
    usage = answers.RankingUsage(found.tokens, found.tokens)
    return json_response(answers.Ranking(name, model.name, usage, results))


async def _scores(
    call: Call, leased: Lease, scoring: Scoring, fields: RankingFields, name: str
) -> tuple[list[float], Pooled]:
    """The scores, and what they cost. What is longer than the model takes is refused, unless the caller has it cut."""
    if len(scoring.pairs) > MAX_PROMPTS:
        raise InvalidRequest(
            f"At most {MAX_PROMPTS} pairs may come in one call, got {len(scoring.pairs)}.", param="documents"
        )
    found = await pool(
        call,
        leased,
        scoring.parts,
        scoring.modality,
        scoring.pooling(fields.wishes),
        name=f"{name}-{uuid.uuid4().hex[:8]}",
        priority=fields.priority or 0,
    )
    return scoring.scores(found.vectors), found


def _name(call: Call, prefix: str) -> str:
    return f"{prefix}-{call.caller.call or uuid.uuid4().hex}"


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
