"""`python -m pico` makes pico from nothing, stage after stage; a stage that is done is not done again.

A stage goes on where it was stopped, and each is a process of its own, `python -m pico.<stage>`. Two that do not wait for
each other run side by side with a thread each, which learns more in an hour than one after the other with two. What everything
else waits for, and what nothing is left to run beside, takes all cores.

Judge and viewer are instruments that ship with their weights; they are trained anew only where these are missing, or by
`python -m pico.judge.train` and `python -m pico.viewer.train`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from .judge import model as judge
from .lessons import MADE
from .viewer import model as viewer
from .voice.lessons import FILE as READ_ALOUD

WORK = Path("build") / "pico"
CORES = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """What it leaves in the work folder when it is done, which stages it comes after, and whether it runs `alone`."""

    name: str
    left: str
    after: tuple[str, ...] = ()
    alone: bool = False

    @property
    def done(self) -> bool:
        return (WORK / self.left).exists()


STAGES = (  # in the order in which they are begun, where several can be
    Stage("train", "text/model.safetensors"),
    Stage("voice.codec", "codec.safetensors"),
    Stage("lessons", MADE),
    Stage("ears", "ears.pt", ("train", "lessons")),
    Stage("voice.token2wav", "token2wav.safetensors", ("voice.codec",)),
    Stage("eyes", "eyes.pt", ("train", "lessons")),
    Stage("voice.lessons", READ_ALOUD, ("train", "voice.codec")),
    Stage("painter.vae", "vae/config.json"),
    Stage("thinker", "thinker.pt", ("ears", "eyes"), alone=True),
    Stage("voice.talker", "talker.safetensors", ("thinker", "voice.lessons"), alone=True),
    Stage("painter.denoiser", "transformer/config.json", ("thinker", "painter.vae"), alone=True),
    Stage("voice.parts", "voice/voice.safetensors", ("voice.token2wav", "voice.talker")),
)
INSTRUMENTS = {
    judge.FOLDER / judge.WEIGHTS: Stage("judge.train", f"judge/{judge.WEIGHTS}"),
    viewer.FOLDER / viewer.WEIGHTS: Stage("viewer.train", f"viewer/{viewer.WEIGHTS}"),
}


def chosen(left: Sequence[Stage], running: Container[str], cores: int) -> dict[str, int]:
    """The stages to begin now, of those `left`, and how many threads each gets, when so many `cores` are idle."""
    waiting = {stage.name for stage in left}
    ready = [one for one in left if one.name not in running and not waiting.intersection(one.after)]
    if cores == CORES and ready and (len(ready) == 1 or ready[0].alone):
        return {ready[0].name: CORES}
    return {stage.name: 1 for stage in [one for one in ready if not one.alone][:cores]}


def main() -> None:
    """Runs what is not done, then puts all together. A stage that fails ends it, when the one beside it has ended."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    using: dict[str, int] = {}
    stages = (*STAGES, *(stage for shipped, stage in INSTRUMENTS.items() if not shipped.exists()))
    while left := [stage for stage in stages if not stage.done]:
        idle = CORES - sum(using[name] for name in running)
        for name, threads in chosen(left, running, idle).items():
            print(f"--- pico.{name}", flush=True)
            command = ["-m", f"pico.{name}", "--threads", str(threads), *sys.argv[1:]]
            running[name], using[name] = subprocess.Popen([sys.executable, *command]), threads
        time.sleep(1)
        ended = {name: child.returncode for name, child in running.items() if child.poll() is not None}
        for name, code in ended.items():
            del running[name]
            if code:
                for child in running.values():
                    child.wait()
                sys.exit(f"pico.{name} ended with exit code {code}")
    subprocess.run([sys.executable, "-m", "pico.assemble"], check=True)


if __name__ == "__main__":
    main()
