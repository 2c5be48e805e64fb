"""`python -m pico` makes pico from nothing, stage after stage; a stage that is done is not done again.

A stage goes on where it was stopped, and each is a process of its own, `python -m pico.<stage>`.
"""

import subprocess
import sys
from pathlib import Path

WORK = Path("build") / "pico"
STAGES = (
    ("train", "text/model.safetensors"),
    ("ears", "ears.pt"),
    ("eyes", "eyes.pt"),
    ("thinker", "thinker.pt"),
    ("judge.train", "judge/judge.safetensors"),
    ("voice.codec", "codec.safetensors"),
    ("voice.token2wav", "token2wav.safetensors"),
    ("voice.talker", "talker.safetensors"),
    ("voice.parts", "voice/voice.safetensors"),
)
"""Each stage and what it leaves in the work folder when it is done."""

for stage, left in STAGES:
    if not (WORK / left).exists():
        print(f"--- pico.{stage}", flush=True)
        subprocess.run([sys.executable, "-m", f"pico.{stage}", *sys.argv[1:]], check=True)
subprocess.run([sys.executable, "-m", "pico.assemble"], check=True)
