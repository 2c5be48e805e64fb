"""How well texts answer others: of a model that reads both together, or of one whose vectors are compared.

A caller makes requests of `parts`, gets a vector for each, and `scores` makes a number for each pair of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from tutti.errors import InvalidRequest
from tutti.request import Pair, Part, PoolingParams, Text

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class Scoring:
    """`pairs` of texts; `together`: the model reads both texts of a pair at once."""

    pairs: tuple[tuple[str, str], ...]
    together: bool

    @classmethod
    def of(cls, first: Sequence[str], second: Sequence[str], outputs: Sequence[str]) -> Scoring:
        """The pairs of two lists, one by one, or of one text with each of a list.

        `outputs` are the modalities that the model gives. Raises InvalidRequest.
        """
        if set(outputs).isdisjoint(("score", "embedding")):
            raise InvalidRequest(
                "The model does not compare texts: it gives neither scores nor embeddings.", param="model"
            )
        if not first or not second or len(first) not in (1, len(second)):
            raise InvalidRequest(
                f"{len(first)} and {len(second)} texts cannot be compared: give as many of each, or one and several.",
                param="text_2",
            )
        firsts = list(first) * (len(second) if len(first) == 1 else 1)
        return cls(tuple(zip(firsts, second, strict=True)), "score" in outputs)

    @property
    def modality(self) -> str:
        """What is asked of the model."""
        return "score" if self.together else "embedding"

    @property
    def texts(self) -> list[str]:
        """Each text once, in order, where the model reads them one by one."""
        return list(dict.fromkeys(text for pair in self.pairs for text in pair))

    @property
    def parts(self) -> list[Part]:
        """What each request is made of."""
        if self.together:
            return [Pair(first, second) for first, second in self.pairs]
        return [Text(text) for text in self.texts]

    def pooling(self, wishes: PoolingParams) -> PoolingParams:
        """How the vectors are made: those that are compared have the length 1."""
        return PoolingParams(
            normalize=True,
            use_activation=wishes.use_activation,
            truncate_prompt_tokens=wishes.truncate_prompt_tokens,
        )

    def joined(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The tokens of each pair, from those of `parts`, where these are single texts."""
        known = dict(zip(self.texts, prompts, strict=True))
        return [[*known[first], *known[second]] for first, second in self.pairs]

    def scores(self, vectors: Sequence[Vector]) -> list[float]:
        """The score of each pair, from the vectors of `parts`. Raises InvalidRequest for a model with classes."""
        if self.together:
            if any(len(vector) != 1 for vector in vectors):
                raise InvalidRequest(
                    f"The model tells {len(vectors[0])} classes apart; it does not score pairs.",
                    param="model",
                )
            return [vector[0] for vector in vectors]
        known = dict(zip(self.texts, vectors, strict=True))
        return [math.fsum(map(mul, known[first], known[second])) for first, second in self.pairs]
