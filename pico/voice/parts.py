"""The finished voice as parts of a Qwen2.5-Omni checkpoint: `python -m pico.voice.parts`.

Writes `voice.safetensors` (talker and token2wav, bfloat16, by their names in the whole checkpoint), `voice.json` (the
sections `talker_config` and `token2wav_config` of config.json) and `spk_dict.pt` (the one voice).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from pico import stage

from . import talker, token2wav

NAME = "Pico"
WEIGHTS, SECTIONS, SPEAKERS = "voice.safetensors", "voice.json", "spk_dict.pt"


def sections(tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the voice."""
    return {"talker_config": talker.config(tokenizer), "token2wav_config": token2wav.CONFIG}


def weights(chosen: stage.Options) -> dict[str, torch.Tensor]:
    parts = {
        "talker": load_file(chosen.file(talker.FILE)),
        "token2wav": load_file(chosen.file(token2wav.FILE)),
    }
    return {
        f"{part}.{name}": value.bfloat16().contiguous()
        for part, state in parts.items()
        for name, value in state.items()
    }


def save(chosen: stage.Options, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(chosen), folder / WEIGHTS, {"format": "pt"})
    (folder / SECTIONS).write_text(json.dumps(sections(tokenizer), indent=2) + "\n")
    voice = torch.load(chosen.file("voice.pt"), weights_only=True)
    torch.save({NAME: voice | {"bos_token": tokenizer.token_to_id("<|tts_bos|>")}}, folder / SPEAKERS)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path, help="by default the folder `voice` of the working folder")
    own, rest = parser.parse_known_args()
    chosen = stage.options("Save pico's voice.", 0, rest)
    tokenizer = Tokenizer.from_file(str(talker.SHIPPED / "tokenizer.json"))
    save(chosen, tokenizer, own.out or chosen.work / "voice")


if __name__ == "__main__":
    main()
