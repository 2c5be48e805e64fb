"""Which part does what, read off the edges, and every way in which edges make no sense. Nothing here runs.

    request.audio -> ears ─text─┐                    a reader: what it gets of the request becomes text in its place
    request.text ───────────────┴─> brain ─text─> answer         gets the conversation
                                       └──text──> voice ─audio─> answer      says what it gets, sentence by sentence

Between the brain and the answer there may be more models, which get each other's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tutti.hub.composition import ANSWER, REQUEST, Composition, EdgeSpec, PartSpec


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model can do: the modalities it `takes` and `gives`.

    `converses`: it answers text, `transcribes`: it writes down recordings (and may do nothing else), `speaks`: it says
    a given text.
    """

    takes: frozenset[str]
    gives: frozenset[str]
    converses: bool
    transcribes: bool
    speaks: bool


@dataclass(frozen=True, slots=True)
class Wiring:
    """Who does what, by the parts' names.

    `brain` gets the conversation, and media of the modalities `direct` with it; `readers` turn those of the other
    modalities into text. `hands_on` says to whom a part's text goes, of those that write more; `writer`'s text is the
    answer. `voice` is whose sound it is and `spoken` whose text that says: the same where a model speaks for itself.
    """

    brain: str
    direct: frozenset[str]
    readers: Mapping[str, str]
    writer: str
    hands_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spoken: str | None = None
    voice: str | None = None

    def writers(self, aloud: bool) -> frozenset[str]:
        """The parts whose text is needed for the answer, and for its sound if that is wanted."""
        before = {after: name for name, afters in self.hands_on.items() for after in afters}
        needed: set[str] = set()
        for last in (self.writer, self.spoken if aloud else None):
            while last is not None:
                needed.add(last)
                last = before.get(last)
        return frozenset(needed)


def wire(composition: Composition, abilities: Mapping[str, Abilities]) -> Wiring:
    """The wiring of a composition whose parts have these abilities. Raises ConfigError naming line and edge."""
    _check_repetitions(composition)
    _check_circles(composition)
    for edge in composition.edges:
        _check_ends(composition, edge, abilities)
    brain = _brain(composition, abilities)
    given = {edge.source.modality: edge for edge in composition.edges if edge.source.part == REQUEST}
    readers = {
        modality: edge.destination.part
        for modality, edge in given.items()
        if modality != "text" and edge.destination.part != brain
    }
    for modality, name in readers.items():
        _check_reader(composition, given[modality], abilities[name], name)
    writer = _answers(composition, "text")
    if writer is None:
        raise composition.wrong(
            composition.edges[-1].line, f"nothing answers: write for instance {brain}.text -> {ANSWER}"
        )
    voice = _answers(composition, "audio")
    spoken, hands_on = _downstream(composition, brain, frozenset(readers.values()), voice, abilities)
    direct = frozenset(given) - frozenset(readers) - {"text"}
    wiring = Wiring(brain, direct, readers, writer, hands_on, spoken, voice)
    _check_use(composition, wiring)
    return wiring


def _check_repetitions(composition: Composition) -> None:
    """An edge stands once, a modality of the request goes to one part, one of the answer comes from one."""
    seen: dict[tuple[str, str], EdgeSpec] = {}
    for edge in composition.edges:
        source, destination = str(edge.source), str(edge.destination)
        rules = [(f"{source} -> {destination}", "this edge is there already")]
        if edge.source.part == REQUEST:
            rules.append((source, f"{source} goes somewhere already"))
        if edge.destination.part == ANSWER:
            rules.append((destination, f"{destination} comes from somewhere already"))
        for key, message in rules:
            first = seen.setdefault((key, message), edge)
            if first is not edge:
                raise composition.wrong_edge(edge, f"{message}, on line {first.line}")


def _check_circles(composition: Composition) -> None:
    """No part's output comes back to it."""
    after: dict[str, list[EdgeSpec]] = {}
    for edge in composition.edges:
        after.setdefault(edge.source.part, []).append(edge)

    def follow(name: str, path: list[EdgeSpec]) -> None:
        for edge in after.get(name, []):
            passed = [one.source.part for one in path]
            if edge.destination.part in (*passed, edge.source.part):
                start = [*passed, edge.source.part].index(edge.destination.part)
                circle = ", ".join(f"{one} (line {one.line})" for one in [*path, edge][start:])
                raise composition.wrong_edge(edge, f"the edges make a circle: {circle}")
            follow(edge.destination.part, [*path, edge])

    for name in after:
        follow(name, [])


def _check_ends(composition: Composition, edge: EdgeSpec, abilities: Mapping[str, Abilities]) -> None:
    """What comes out is what goes in, and both parts are capable of it."""
    source, destination = edge.source, edge.destination
    if source.part != REQUEST and source.modality not in abilities[source.part].gives:
        gives = _said(abilities[source.part].gives)
        raise composition.wrong_edge(edge, f"{source.part} gives {gives}")
    if destination.part == ANSWER:
        if destination.modality not in ("text", "audio"):
            raise composition.wrong_edge(edge, "an answer is text and audio")
        if source.part == REQUEST:
            raise composition.wrong_edge(
                edge, "nothing answers here; an edge to the answer comes from a part"
            )
    elif destination.modality not in abilities[destination.part].takes:
        takes = _said(abilities[destination.part].takes)
        raise composition.wrong_edge(edge, f"{destination.part} takes {takes}")
    if source.modality != destination.modality:
        raise composition.wrong_edge(
            edge, f"{source.modality} does not become {destination.modality} on the way"
        )
    if source.part != REQUEST and destination.part != ANSWER and source.modality != "text":
        raise composition.wrong_edge(edge, f"parts hand on text only; {source.modality} goes to {ANSWER}")


def _brain(composition: Composition, abilities: Mapping[str, Abilities]) -> str:
    for edge in composition.edges:
        if str(edge.source) == f"{REQUEST}.text":
            name = edge.destination.part
            if not abilities[name].converses:
                raise composition.wrong_edge(edge, f"{name} does not converse: it has no chat template")
            return name
    raise composition.wrong(
        composition.edges[0].line,
        f"the conversation goes nowhere: write for instance {REQUEST}.text -> brain",
    )


def _check_reader(composition: Composition, edge: EdgeSpec, able: Abilities, name: str) -> None:
    if edge.source.modality == "audio" and able.transcribes:
        return
    manner = composition.part(name).manner
    if not able.converses:
        raise composition.wrong_edge(edge, f"{name} makes no text of {edge.source.modality}")
    if not manner.prompt:
        example = "Write down what is said." if edge.source.modality == "audio" else "Describe the picture."
        raise composition.wrong_edge(
            edge, f"say what {name} shall do: under models.{name}, prompt: {example}"
        )


def _answers(composition: Composition, modality: str) -> str | None:
    """The part whose text or audio is the answer's."""
    return next(
        (edge.source.part for edge in composition.edges if str(edge.destination) == f"{ANSWER}.{modality}"),
        None,
    )


def _downstream(
    composition: Composition,
    brain: str,
    readers: frozenset[str],
    voice: str | None,
    abilities: Mapping[str, Abilities],
) -> tuple[str | None, dict[str, tuple[str, ...]]]:
    """Whose text is spoken, and to whom texts go on behind the brain."""
    hands_on: dict[str, tuple[str, ...]] = {}
    fed: dict[str, EdgeSpec] = {}
    writing = {edge.source.part for edge in composition.edges if edge.source.modality == "text"}
    spoken = voice if voice in writing else None
    for edge in composition.edges:
        source, destination = edge.source.part, edge.destination.part
        if source == REQUEST or destination == ANSWER:
            continue
        if source in readers:
            if destination != brain:
                raise composition.wrong_edge(
                    edge, f"what {source} reads goes to {brain}, with the conversation"
                )
            continue
        if (first := fed.setdefault(destination, edge)) is not edge:
            raise composition.wrong_edge(
                edge, f"{destination} takes one text, and line {first.line} gives it one"
            )
        if destination == voice and destination not in writing:
            if not abilities[destination].speaks:
                raise composition.wrong_edge(edge, f"{destination} does not say texts that it is given")
            spoken = source
            continue
        if not abilities[destination].converses:
            raise composition.wrong_edge(edge, f"{destination} does not converse: it has no chat template")
        hands_on[source] = (*hands_on.get(source, ()), destination)
    return spoken, hands_on


def _check_use(composition: Composition, wiring: Wiring) -> None:
    """Every part is of use: something comes in, and what comes out is used."""
    reachable = {wiring.brain, *(name for names in wiring.hands_on.values() for name in names)}
    for name, what in ((wiring.writer, "text"), (wiring.spoken, "audio")):
        if name is not None and name not in reachable:
            edge = next(edge for edge in composition.edges if str(edge.destination) == f"{ANSWER}.{what}")
            raise composition.wrong_edge(edge, f"{name} knows nothing of the conversation")
    used = {*wiring.readers.values(), *wiring.writers(aloud=True), wiring.voice}
    for part in composition.parts:
        edges = [edge for edge in composition.edges if part.name in (edge.source.part, edge.destination.part)]
        if not any(edge.destination.part == part.name for edge in edges):
            raise composition.wrong(_line(part, edges), f"{part.name}: no edge leads to it")
        if not any(edge.source.part == part.name for edge in edges) or part.name not in used:
            raise composition.wrong(_line(part, edges), f"{part.name}: what it gives is not used")


def _line(part: PartSpec, edges: list[EdgeSpec]) -> int:
    return edges[0].line if edges else part.line


def _said(modalities: frozenset[str]) -> str:
    order = ("text", "image", "audio", "video")
    return ", ".join(sorted(modalities, key=order.index)) or "nothing"
