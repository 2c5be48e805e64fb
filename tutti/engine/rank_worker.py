"""The process of one rank of a network that several compute: `python -m tutti.engine.rank_worker FD FD FD FD`.

Started by `engine.ranks`; the descriptors are one end of a line to the leader. The first message says what to load.
When the line ends, so does the process, whatever it waits for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tutti.engine.apart import open_line
from tutti.errors import TuttiError
from tutti.events import ErrorValue

if TYPE_CHECKING:
    from tutti.engine.line import Line
    from tutti.engine.parcels import Join, Message
    from tutti.models.drawing.parallel import Team

log = logging.getLogger(__name__)


def main(descriptors: tuple[int, ...]) -> int:
    """Compute until the line ends; the exit code."""
    line = open_line(descriptors)

    from tutti.engine.parcels import Join
    from tutti.engine.wire import Fatal

    join = line.receive()
    if not isinstance(join, Join):
        return 1
    inbox: SimpleQueue[Message] = SimpleQueue()
    threading.Thread(target=_receive_all, args=(line, inbox), name="from-leader", daemon=True).start()
    try:
        _serve(line, join, inbox)
    except TuttiError as error:
        line.send(Fatal(ErrorValue.of(error)))
    except Exception as error:  # the process's last word: the leader must hear of it
        log.exception("rank %d ended", join.rank)
        line.send(Fatal(ErrorValue("StageFailed", f"{type(error).__name__}: {error}")))
    line.close()
    line.join()
    return 1


def _serve(line: Line, join: Join, inbox: SimpleQueue[Message]) -> None:
    import torch

    from tutti.engine.parcels import Advance, Drop, Ready, Take
    from tutti.models.drawing.parallel import Team

    device = torch.device(join.device)
    if device.type == "cpu":
        torch.set_num_threads(join.threads)
    team = Team(join.options.degrees, join.rank, device)
    model = _network(join, team)
    line.send(Ready(()))
    team.join(join.meeting)
    states: dict[int, Any] = {}
    with torch.inference_mode():
        while True:
            match inbox.get():
                case Take(number, request, condition):
                    states[number] = model.start(request, condition.to(device))
                case Advance(numbers):
                    states |= zip(numbers, model.step([states[one] for one in numbers]), strict=True)
                case Drop(number):
                    del states[number]


def _network(join: Join, team: Team) -> Any:
    """The model of the stage, or this rank's share of it."""
    from tutti.engine.build import Builder
    from tutti.engine.players import Players
    from tutti.formats.checkpoint import open_checkpoint
    from tutti.models.registry import find_graph

    checkpoint = open_checkpoint(join.options.model)
    graph = find_graph(checkpoint.config, checkpoint.path)
    builder = Builder(checkpoint, graph, join.options, join.plan, team.device, Players(), lambda: None)
    return builder.network(graph.stage(join.stage), team)


def _receive_all(line: Line, inbox: SimpleQueue[Message]) -> None:
    while (message := line.receive()) is not None:
        inbox.put(message)
    os._exit(0)  # whoever leads is gone: there is nobody to compute with, or to wait for


if __name__ == "__main__":
    code = main(tuple(map(int, sys.argv[1:])))
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: other ranks may be gone in the midst of a computation, whose threads would wait for them.
    os._exit(code)
