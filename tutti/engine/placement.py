"""Which stage of a graph is the main one, and which runs on which device, as the operator says. Torch-free.

Stages without a word stay on the main device, with the main stage. Every other device ("cpu:1", "cuda:0")
is a process with a loop of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tutti.errors import ConfigError
from tutti.graph import Graph, Kind, Stage
from tutti.request import POOLED


def parse_placement(words: list[str]) -> dict[str, str]:
    """{"talker": "cpu:1"} of ["talker=cpu:1"]; several may stand in one word, with commas. Raises ConfigError."""
    found = {}
    for word in (one for words_ in words for one in words_.split(",")):
        stage, equals, device = word.partition("=")
        if not (stage and equals and device):
            raise ConfigError(
                f"--place {word}: write STAGE=DEVICE, for instance talker=cpu:1", param="placement"
            )
        found[stage.strip()] = device.strip()
    return found


def device_name(name: str) -> str:
    """The one name of a device that may be written in several ways: cpu, cpu:1, cuda:0. Raises ConfigError."""
    match = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", name)
    if match is None:
        raise ConfigError(f"there is no device {name!r}; write cpu, cpu:1, cuda:0 ...", param="placement")
    kind, number = match[1], int(match[2] or 0)
    return kind if kind == "cpu" and not number else f"{kind}:{number}"


def elsewhere(graph: Graph, placement: Mapping[str, str], main: str) -> dict[str, tuple[Stage, ...]]:
    """The stages that are not on the device `main`, by device. Raises ConfigError on what cannot be placed."""
    names = [stage.name for stage in graph.stages]
    unknown = sorted(set(placement) - set(names))
    if unknown:
        raise ConfigError(
            f"--place {unknown[0]}: the model has no such stage; it has {', '.join(names)}", param="placement"
        )
    found: dict[str, tuple[Stage, ...]] = {}
    first = main_stage(graph)
    for stage in graph.stages:
        device = device_name(placement.get(stage.name, main))
        if device == device_name(main):
            continue
        if stage is first:
            raise ConfigError(
                f"--place {stage.name}: the model's main stage is where --device says",
                param="placement",
            )
        if stage.kind is Kind.DENOISE or not stage.weights:
            raise ConfigError(
                f"--place {stage.name}: this stage cannot be apart from the others", param="placement"
            )
        found[device] = (*found.get(device, ()), stage)
    return found


def main_stage(graph: Graph) -> Stage:
    """The autoregressive stage that takes text, or the only one there is; without any, the denoiser, or the stage that
    makes vectors. Beside a language model, one denoiser may stand.

    Raises ConfigError when the graph is not of a kind that is served.
    """
    if len(graph.stages) == 1 and graph.stages[0].output in POOLED:
        return graph.stages[0]
    steps = of_kind(graph, Kind.AUTOREGRESS)
    found = [stage for stage in steps if "text" in stage.inputs] or steps or of_kind(graph, Kind.DENOISE)
    if len(found) != 1 or len(of_kind(graph, Kind.DENOISE)) > 1:
        raise ConfigError(
            f"graph {graph.name}: only graphs around one language model or one denoiser are served yet"
        )
    return found[0]


def painter_of(graph: Graph) -> Stage | None:
    """The stage of denoising beside the main one, if there is one."""
    main = main_stage(graph)
    return next((stage for stage in of_kind(graph, Kind.DENOISE) if stage is not main), None)


def followers_of(graph: Graph) -> list[Stage]:
    """The autoregressive stages behind the main one."""
    main = main_stage(graph)
    return [stage for stage in of_kind(graph, Kind.AUTOREGRESS) if stage is not main]


def encoders_of(graph: Graph) -> list[Stage]:
    """The stages of one pass beside the main one."""
    main = main_stage(graph)
    return [stage for stage in of_kind(graph, Kind.ONCE) if stage is not main]


def of_kind(graph: Graph, kind: Kind) -> list[Stage]:
    """The stages of one kind."""
    return [stage for stage in graph.stages if stage.kind is kind]
