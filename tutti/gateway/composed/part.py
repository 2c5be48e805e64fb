"""One model of a composition: a backend under its name in the file, whose errors say that name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tutti.errors import InvalidRequest, TuttiError
from tutti.events import ErrorValue, Event, Failed, Usage
from tutti.gateway.local import LocalBackend
from tutti.hub.composition import PartSpec
from tutti.models.processor import Processor
from tutti.request import Request, SamplingParams


@dataclass(frozen=True, slots=True)
class Part:
    """A part that serves."""

    spec: PartSpec
    backend: LocalBackend

    @property
    def name(self) -> str:
        """What the file calls it."""
        return self.spec.name

    @property
    def processor(self) -> Processor:
        """Its model's."""
        return self.backend.processor

    @property
    def sampling(self) -> SamplingParams:
        """How it chooses tokens where no request says so: as the file and its checkpoint do."""
        return SamplingParams(**{"max_tokens": None, **self.defaults})

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters of sampling that the file or its checkpoint set."""
        return {**self.processor.generation_defaults, **self.spec.manner.sampling}

    async def events(self, request: Request, spend: Callable[[Usage], None]) -> AsyncGenerator[Event, None]:
        """The events of `request` but for what it cost, which `spend` is told. Raises the request's error."""
        with self.naming():
            named = msgspec.structs.replace(request, model=self.name)
            async with aclosing(self.backend.generate(named)) as events:
                async for event in events:
                    if isinstance(event, Failed):
                        raise event.error.error()
                    if isinstance(event, Usage):
                        spend(event)
                    else:
                        yield event

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Within it, every error names the part."""
        try:
            yield
        except TuttiError as error:
            raise naming(self.name, error) from error

    def sampled(self, request: Request) -> tuple[SamplingParams | None, dict[str, SamplingParams]]:
        """What `stage_sampling` of a whole request says of this part, and of its stages ("voice.talker")."""
        stages = {
            key.removeprefix(f"{self.name}."): value
            for key, value in request.stage_sampling.items()
            if key.startswith(f"{self.name}.")
        }
        return request.stage_sampling.get(self.name), stages


def naming(name: str, error: TuttiError) -> TuttiError:
    """`error` with the name of the part where it happened."""
    value = ErrorValue.of(error)
    stage = name if value.stage is None else f"{name}.{value.stage}"
    return msgspec.structs.replace(value, message=f"{name}: {value.message}", stage=stage).error()


def accompanying(request: Request, whole: Request) -> Request:
    """A part's request as a piece of the work on `whole`: of its call, as urgent as it."""
    return msgspec.structs.replace(
        request, priority=whole.priority, call=whole.call, traceparent=whole.traceparent
    )


def check_stages(request: Request, parts: dict[str, Part]) -> None:
    """Raises InvalidRequest when `stage_sampling` names what is not there."""
    for key in request.stage_sampling:
        if key.partition(".")[0] not in parts:
            raise InvalidRequest(
                f"stage_sampling: there is no part {key!r}; there are {', '.join(parts)}, and their stages: "
                "part.stage",
                param="stage_sampling",
            )


@dataclass(slots=True)
class Account:
    """What a request costs in all parts together, by output."""

    request: str
    _outputs: dict[int, Usage] = field(default_factory=dict)

    def add(self, usage: Usage, index: int | None = None) -> None:
        """A part's account, of output `index` if the part does not know."""
        index = usage.index if index is None else index
        known = self._outputs.get(index, Usage(self.request, 0, 0, 0, index=index))
        summed = {
            name: getattr(known, name) + getattr(usage, name)
            for name in Usage.__struct_fields__
            if name not in ("request", "index")
        }
        self._outputs[index] = msgspec.structs.replace(known, **summed)

    def of(self, index: int) -> Usage:
        """What output `index` has cost."""
        return self._outputs.get(index, Usage(self.request, 0, 0, 0, index=index))
