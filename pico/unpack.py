"""The working folder again from what ships: `python -m pico.unpack`, to go on with pico's voice without the hours before it.

Thinker, painter, judge, viewer, codec and token2wav are read back, in bfloat16 as they ship, and stages that find them there
are not done again; the talker becomes what the next one begins with.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .assemble import PAINTER
from .evaluate import SHIPPED
from .judge.model import FOLDER, WEIGHTS, WORDS
from .viewer import model as viewer
from .voice import codec, parts, talker, token2wav


def unpack(work: Path) -> None:
    """Everything where its stage leaves it in `work`."""
    (work / "text").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SHIPPED / "tokenizer.json", work / "text" / "tokenizer.json")
    stored = load_file(SHIPPED / "model.safetensors")
    thinker = _part(stored, "thinker")
    thinker["lm_head.weight"] = thinker["model.embed_tokens.weight"]
    torch.save(thinker, work / "thinker.pt")
    save_file(_part(stored, "talker"), work / talker.START)
    save_file(_part(stored, "token2wav"), work / token2wav.FILE)
    speaker = torch.load(SHIPPED / "spk_dict.pt", weights_only=True)[parts.NAME]
    torch.save({name: speaker[name] for name in ("cond", "ref_mel")}, work / token2wav.VOICE)
    shutil.copyfile(codec.SHIPPED, work / codec.FILE)
    for name in PAINTER:
        if (SHIPPED / name).exists():
            shutil.copytree(SHIPPED / name, work / name, dirs_exist_ok=True)
    (work / "viewer").mkdir(exist_ok=True)
    shutil.copyfile(viewer.FOLDER / viewer.WEIGHTS, work / "viewer" / viewer.WEIGHTS)
    (work / "judge").mkdir(exist_ok=True)
    for name in (WEIGHTS, WORDS):
        shutil.copyfile(FOLDER / name, work / "judge" / name)


def _part(stored: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of one part by their own names, float32."""
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value.float() for key, value in stored.items() if key.startswith(prefix)
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pico.unpack", description="Read back what ships.")
    parser.add_argument(
        "--work", type=Path, default=Path("build") / "pico", help="where the stages look for it"
    )
    unpack(parser.parse_args().work)
