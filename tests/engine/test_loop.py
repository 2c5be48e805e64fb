"""The loop over a graph of three stages of different kinds: real small modules, no text anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutti.engine.bridges import as_it_is
from tutti.engine.denoise import Denoise
from tutti.engine.loop import Loop
from tutti.engine.once import Once
from tutti.errors import InvalidMedia
from tutti.events import AudioDelta, Done, Event, Failed
from tutti.graph import Chunk, Edge, Graph, Kind, Stage
from tutti.request import Array, MediaInput, Request
from tutti.trace import Trace

SIZE = 8


class Encoder:
    """Bytes to a vector."""

    def __init__(self) -> None:
        self.linear = nn.Linear(SIZE, SIZE)
        self.batches: list[int] = []

    def take(self, part: MediaInput) -> Tensor:
        data = part.arrays["bytes"].data
        if len(data) != SIZE:
            raise InvalidMedia(f"a picture has {SIZE} bytes")
        return torch.tensor(list(data), dtype=torch.float32)

    def cost(self, item: Tensor) -> int:
        return len(item)

    def bucket(self, item: Tensor) -> int:
        return len(item)

    def run(self, items: list[Tensor]) -> list[Tensor]:
        self.batches.append(len(items))
        if any(item.sum() == 0 for item in items):
            raise ValueError("a black picture")
        return list(self.linear(torch.stack(items)))


@dataclass(frozen=True)
class Latent:
    x: Tensor
    condition: Tensor
    step: int = 0


class Denoiser:
    """Euler steps towards a condition; requests are at different steps in one batch."""

    def __init__(self) -> None:
        self.times: list[list[int]] = []

    def start(self, request: Request, condition: Tensor) -> Latent:
        noise = torch.Generator().manual_seed(request.sampling.seed or 0)
        return Latent(torch.randn(SIZE, generator=noise), condition)

    def key(self, state: Latent) -> int:
        return len(state.x)

    def step(self, states: list[Latent]) -> list[Latent]:
        self.times.append([state.step for state in states])
        return [replace(s, x=s.x + (s.condition - s.x) / (4 - s.step), step=s.step + 1) for s in states]

    def cost(self, state: Latent) -> int:
        return 1

    def kept(self, state: Latent) -> int:
        return 0

    def skipped(self, state: Latent) -> int:
        return 0

    def fault(self, state: Latent) -> None:
        return None

    def progress(self, state: Latent) -> tuple[int, int]:
        return state.step, 4

    def preview(self, state: Latent) -> None:
        return None

    def result(self, state: Latent) -> Tensor:
        return state.x


class Vocoder:
    """A vector to sound."""

    def take(self, part: Any) -> Any:
        raise AssertionError("only edges lead here")

    def cost(self, item: Any) -> int:
        return 1

    def bucket(self, item: Any) -> None:
        return None

    def run(self, items: list[Any]) -> list[Any]:
        return [AudioDelta(name, bytes(x.clamp(0, 255).to(torch.uint8).tolist()), 8) for name, x in items]


def name_it(chunk: Chunk, state: dict[str, Any]) -> Chunk:
    return replace(chunk, payload=(chunk.request, chunk.payload))


HERE = "tests.engine.test_loop"
GRAPH = Graph(
    "toy",
    ("Toy",),
    (
        Stage("see", Kind.ONCE, f"{HERE}:Encoder", "", inputs=("image",)),
        Stage("dream", Kind.DENOISE, f"{HERE}:Denoiser", ""),
        Stage("sing", Kind.ONCE, f"{HERE}:Vocoder", "", output="audio"),
    ),
    (Edge("see", "dream"), Edge("dream", "sing", "named")),
)


class Bench:
    """A loop with its stages, and what it emitted."""

    def __init__(self, traced: Callable[[Trace], None] | None = None) -> None:
        torch.manual_seed(0)
        self.encoder, self.denoiser = Encoder(), Denoiser()
        self.events: list[Event] = []
        self.see = Once("see", self.encoder, budget=3 * SIZE, inputs=("image",), keep_bytes=2 * 4 * SIZE)
        self.dream = Denoise("dream", self.denoiser, budget=4, fed=True)
        self.sing = Once("sing", Vocoder(), budget=4)
        runners = {"see": self.see, "dream": self.dream, "sing": self.sing}
        bridges = {("see", "dream"): as_it_is, ("dream", "sing"): name_it}
        self.loop = Loop(GRAPH, runners, bridges, self.events.extend, traced=traced)

    def submit(self, name: str, picture: bytes, modality: str = "audio") -> None:
        digest = hashlib.sha256(picture).hexdigest()
        arrays = {"bytes": Array("uint8", (len(picture),), picture)}
        part = MediaInput("image", digest, arrays, ((0, 1),))
        self.loop.submit(Request(id=name, parts=(part,), modalities=(modality,)))

    def run(self) -> None:
        while self.loop.turn():
            pass

    def ends(self) -> dict[str, Event]:
        return {event.request: event for event in self.events if isinstance(event, Done | Failed)}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def picture(start: int) -> bytes:
    return bytes(range(start, start + SIZE))


def test_a_request_passes_through_stages_of_different_kinds(bench: Bench) -> None:
    bench.submit("a", picture(1))
    bench.run()
    sound = [event for event in bench.events if isinstance(event, AudioDelta)]
    expected = bench.encoder.linear(torch.arange(1.0, 9.0)).clamp(0, 255).to(torch.uint8)
    assert [list(event.pcm) for event in sound] == [expected.tolist()]
    assert bench.ends() == {"a": Done("a", "stop")}


def test_requests_at_different_steps_share_a_batch(bench: Bench) -> None:
    bench.submit("a", picture(1))
    for _ in range(3):
        bench.loop.turn()
    bench.submit("b", picture(2))
    bench.run()
    assert any(len(set(times)) > 1 for times in bench.denoiser.times)
    assert {type(event) for event in bench.ends().values()} == {Done}


def test_the_budget_bounds_a_batch_of_items(bench: Bench) -> None:
    for number in range(5):
        bench.submit(str(number), picture(number + 1))
    bench.run()
    assert max(bench.encoder.batches) == 3 and sum(bench.encoder.batches) == 5


def test_what_an_encoder_has_seen_lately_is_not_computed_again(bench: Bench) -> None:
    for name, start in (("a", 1), ("b", 1), ("c", 2)):  # two equal ones wait together
        bench.submit(name, picture(start))
    bench.run()
    assert bench.encoder.batches == [2]
    bench.submit("d", picture(1))
    bench.run()
    bench.submit("e", picture(3))  # there is room for two: the third least recently used goes
    bench.run()
    assert bench.encoder.batches == [2, 1]
    bench.submit("f", picture(2))
    bench.run()
    assert bench.encoder.batches == [2, 1, 1]
    assert {type(event) for event in bench.ends().values()} == {Done}
    sounds = {event.request: event.pcm for event in bench.events if isinstance(event, AudioDelta)}
    assert sounds["a"] == sounds["b"] == sounds["d"] != sounds["c"] == sounds["f"]


def test_a_stage_that_raises_fails_only_the_request_at_fault(bench: Bench) -> None:
    bench.submit("good", picture(1))
    bench.submit("black", bytes(SIZE))
    bench.submit("fine", picture(3))
    bench.run()
    ends = bench.ends()
    assert isinstance(ends["good"], Done) and isinstance(ends["fine"], Done)
    failed = ends["black"]
    assert isinstance(failed, Failed)
    assert failed.error.stage == "see" and "black picture" in failed.error.message


def test_what_a_stage_refuses_fails_at_once_with_its_own_error(bench: Bench) -> None:
    bench.submit("short", b"123")
    (event,) = bench.events
    assert isinstance(event, Failed) and event.error.kind == "InvalidMedia"
    assert bench.loop.turn() is False


def test_a_modality_the_model_does_not_give_is_refused(bench: Bench) -> None:
    bench.submit("x", picture(1), modality="video")
    (event,) = bench.events
    assert isinstance(event, Failed) and "audio" in event.error.message


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_request_leaves_nothing_behind_wherever_it_is(bench: Bench, turns: int) -> None:
    bench.submit("a", picture(1))
    for _ in range(turns):
        bench.loop.turn()
    ended = "a" in bench.ends()
    bench.loop.cancel("a")
    assert [runner.urgency() for runner in bench.loop.runners.values()] == [None] * 3
    assert not bench.loop.turn()
    assert ended or bench.ends()["a"] == Done("a", "cancelled")


def test_a_graph_is_pruned_to_what_is_wanted() -> None:
    talk = Graph(
        "talk",
        ("T",),
        (
            Stage("ear", Kind.ONCE, "", "", inputs=("audio",)),
            Stage("think", Kind.AUTOREGRESS, "", "", output="text", inputs=("text",)),
            Stage("talk", Kind.AUTOREGRESS, "", ""),
            Stage("sound", Kind.ONCE, "", "", output="audio"),
        ),
        (Edge("ear", "think", ""), Edge("think", "talk", ""), Edge("talk", "sound", "")),
    )
    assert [stage.name for stage in talk.prune(("text",)).stages] == ["think"]
    assert [stage.name for stage in talk.prune(("text", "audio"), ("text", "audio")).stages] == [
        "ear",
        "think",
        "talk",
        "sound",
    ]
    assert [stage.name for stage in talk.without("talk").stages] == ["ear", "think"]
    assert [edge.destination for edge in talk.without("ear").edges] == [
        "talk",
        "sound",
    ]  # who is asked in words
    draws = replace(
        talk,
        stages=(*talk.stages, Stage("paint", Kind.DENOISE, "", "", output="image")),
        edges=(*talk.edges, Edge("think", "paint", prompt=False)),
    )
    assert draws.made_of("think") == {"audio", "image"} and draws.made_of("think", prompt=True) == {"audio"}
    assert [stage.name for stage in draws.silent().stages] == ["ear", "think", "paint"]
    with pytest.raises(ValueError, match="no stage 'mouth'"):
        Graph("bad", (), talk.stages, (Edge("think", "mouth", ""),))


def test_a_source_rests_while_what_follows_has_enough() -> None:
    bench = Bench()
    graph = Graph("short", ("T",), (GRAPH.stage("see"), GRAPH.stage("sing")), (Edge("see", "sing"),))
    bridges = {("see", "sing"): name_it}
    loop = Loop(graph, {"see": bench.see, "sing": bench.sing}, bridges, bench.events.extend)
    parts = tuple(
        MediaInput("image", str(k), {"bytes": Array("uint8", (SIZE,), picture(k))}, ((k, 1),))
        for k in range(1, 21)
    )
    loop.submit(
        Request(id="album", parts=parts, modalities=("audio",))
    )  # a file: who looks is the more urgent
    most = 0
    while loop.turn():
        most = max(most, bench.sing.waiting)
    assert most == 6  # two batches of three, then it waits
    assert len([event for event in bench.events if isinstance(event, AudioDelta)]) == 20
    assert isinstance(bench.events[-1], Done)
