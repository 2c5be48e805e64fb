"""The finished voice as parts of a Qwen2.5-Omni checkpoint, for `pico.assemble`: `python -m pico.voice.parts`.

Writes into the folder `voice` of the working folder: `voice.safetensors` (talker and token2wav, bfloat16, by their names in
the whole checkpoint), `voice.json` (the sections `talker_config` and `token2wav_config` of config.json) and `spk_dict.pt`
(the one voice).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from pico.assemble import SECTIONS, SPEAKERS, WEIGHTS
from pico.training import options

from . import talker, token2wav

NAME = "Pico"


def save(work: Path) -> None:
    """Puts together what the stages of the voice left in `work`."""
    tokenizer = Tokenizer.from_file(str(work / "text" / "tokenizer.json"))
    folder = work / "voice"
    folder.mkdir(exist_ok=True)
    parts = {"talker": load_file(work / talker.FILE), "token2wav": load_file(work / token2wav.FILE)}
    weights = {
        f"{part}.{name}": value.bfloat16().contiguous()
        for part, state in parts.items()
        for name, value in state.items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    sections = {"talker_config": talker.config(tokenizer), "token2wav_config": token2wav.CONFIG}
    (folder / SECTIONS).write_text(json.dumps(sections, indent=2) + "\n")
    speaker = torch.load(work / token2wav.VOICE, weights_only=True)
    torch.save({NAME: speaker | {"bos_token": tokenizer.token_to_id("<|tts_bos|>")}}, folder / SPEAKERS)


if __name__ == "__main__":
    save(options("voice.parts", "Put pico's voice together.", 0).work)
