"""The working folder again from the checkpoint that ships: `python -m pico.unpack`, to train pico's voice anew without the
hours before it. What was made is read back as it ships, in bfloat16; stages that find it there are not done again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from .evaluate import SHIPPED
from .judge.model import FOLDER, WEIGHTS, WORDS

PART = "thinker."


def unpack(work: Path) -> None:
    """Tokenizer, thinker and judge, where their stages leave them in `work`."""
    (work / "text").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SHIPPED / "tokenizer.json", work / "text" / "tokenizer.json")
    weights = {
        name.removeprefix(PART): value.float()
        for name, value in load_file(SHIPPED / "model.safetensors").items()
        if name.startswith(PART)
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    torch.save(weights, work / "thinker.pt")
    (work / "judge").mkdir(exist_ok=True)
    for name in (WEIGHTS, WORDS):
        shutil.copyfile(FOLDER / name, work / "judge" / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pico.unpack", description="Read back what ships.")
    parser.add_argument(
        "--work", type=Path, default=Path("build") / "pico", help="where the stages look for it"
    )
    unpack(parser.parse_args().work)
