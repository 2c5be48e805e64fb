"""An answer as a client puts it together from a parser's deltas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from tutti.models.parsers import ContentDelta, OutputParser, ReasoningDelta, ToolCallDelta


@dataclass
class Answer:
    """An answer put together from its deltas, as a client does."""

    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)

    @property
    def objects(self) -> list[tuple[str, object]]:
        """Name and arguments of each call. Raises ValueError where arguments are not JSON."""
        return [(name, json.loads(arguments)) for name, arguments in self.calls]

    @property
    def everything(self) -> str:
        """All of it as one text."""
        return self.content + self.reasoning + "".join(name + arguments for name, arguments in self.calls)


def parse(make: Callable[[], OutputParser], *pieces: str) -> Answer:
    """The answer that a parser makes of `pieces`; checks the order of a call's deltas."""
    parser, answer = make(), Answer()
    deltas = [delta for piece in pieces for delta in parser.push(piece)]
    for delta in [*deltas, *parser.finish()]:
        if isinstance(delta, ContentDelta):
            answer.content += delta.text
        elif isinstance(delta, ReasoningDelta):
            answer.reasoning += delta.text
        else:
            assert isinstance(delta, ToolCallDelta)
            if delta.name is not None:
                assert delta.index == len(answer.calls) and delta.arguments == ""
                answer.calls.append([delta.name, ""])
            else:
                assert delta.index == len(answer.calls) - 1 and delta.arguments
                answer.calls[-1][1] += delta.arguments
    return answer


def split(text: str, cuts: list[int]) -> list[str]:
    """`text` cut at the places in `cuts`."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]
