"""`python -m pico` makes pico from nothing, stage after stage; a stage that is done is not done again.

A stage goes on where it was stopped, and each is a process of its own, `python -m pico.<stage>`. Two that do not wait for
each other run side by side with a thread each, which learns more in an hour than one after the other with two.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WORK = Path("build") / "pico"
CORES = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """What it leaves in the work folder when it is done, and which stages it comes after."""

    name: str
    left: str
    after: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return (WORK / self.left).exists()


STAGES = (
    Stage("train", "text/model.safetensors"),
    Stage("judge.train", "judge/judge.safetensors"),
    Stage("voice.codec", "codec.safetensors"),
    Stage("painter.vae", "vae/config.json"),
    Stage("viewer.train", "viewer/viewer.safetensors"),
    Stage("ears", "ears.pt", ("train",)),
    Stage("eyes", "eyes.pt", ("train",)),
    Stage("thinker", "thinker.pt", ("ears", "eyes")),
    Stage("voice.token2wav", "token2wav.safetensors", ("voice.codec",)),
    Stage("voice.talker", "talker.safetensors", ("thinker", "voice.codec")),
    Stage("painter.denoiser", "transformer/config.json", ("thinker", "painter.vae")),
    Stage("voice.parts", "voice/voice.safetensors", ("voice.token2wav", "voice.talker")),
)


def main() -> None:
    """Runs what is not done, then puts all together. A stage that fails ends it, when the one beside it has ended."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    while left := [stage for stage in STAGES if not stage.done]:
        waiting = {stage.name for stage in left}
        ready = [one for one in left if one.name not in running and not waiting.intersection(one.after)]
        alone = len(ready) + len(running) == 1
        for stage in ready[: CORES - len(running)]:
            command = ["-m", f"pico.{stage.name}", "--threads", str(CORES if alone else 1), *sys.argv[1:]]
            print(f"--- pico.{stage.name}", flush=True)
            running[stage.name] = subprocess.Popen([sys.executable, *command])
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
