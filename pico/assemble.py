"""Puts pico together: `python -m pico.assemble`. The thinker, the voice if there is one, and what says how media are read.

The painter is what its stages left in the work folder: `transformer`, `vae` and `scheduler` in diffusers' format. Without it the
checkpoint does not draw. The voice is what its stages left in the work folder's `voice`: `voice.safetensors` (talker and token2wav by their names in the
whole checkpoint), `voice.json` (their sections of config.json) and `spk_dict.pt`. Without it the checkpoint writes but does
not speak, and says so (`enable_audio_output`).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig

from .evaluate import SHIPPED
from .model import CONTEXT
from .omni import (
    BANDS,
    HOP,
    LEAST_PIXELS,
    LONGEST_FRAMES,
    MERGE,
    MOST_PIXELS,
    PATCH,
    load_thinker,
    thinker_config,
)
from .pictures import DRAWN
from .requests import SIGN
from .sight import COLOURS
from .speech import HEARD_RATE
from .tokenizer import END, END_OF_TEXT, save_tokenizer

WEIGHTS, SECTIONS, SPEAKERS = "voice.safetensors", "voice.json", "spk_dict.pt"
PAINTER = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "scheduler": None,
}
"""The painter's folders, and the weights in each."""
DRAWING = {"steps": 10, "guidance": 2.0, "size": DRAWN, "sign": SIGN, "rows": 64}
"""The section `drawing` of config.json: the sampler's steps and its guidance, the side of a picture in pixels, the token behind
an answer which says that a picture follows, and the most rows of the answer that the painter is told."""


def assemble(
    thinker: dict[str, Tensor], tokenizer: Tokenizer, voice: Path | None, painter: Path | None, out: Path
) -> None:
    """Writes the whole checkpoint to `out`, its weights rounded to bfloat16. `voice` and `painter` are folders, see above."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {f"thinker.{name}": value for name, value in thinker.items() if name != "lm_head.weight"}
    sections: dict[str, Any] = {}
    if voice is not None:
        weights |= load_file(voice / WEIGHTS)
        sections = json.loads((voice / SECTIONS).read_text())
        shutil.copyfile(voice / SPEAKERS, out / SPEAKERS)
    else:
        torch.save({}, out / SPEAKERS)  # transformers asks for it even so
    rounded = {name: value.bfloat16().contiguous() for name, value in weights.items()}
    save_file(rounded, out / "model.safetensors", {"format": "pt"})
    _write(out / "config.json", _config(tokenizer, sections, draws=painter is not None))
    if painter is not None:
        _painter(painter, out)
    _write(out / "preprocessor_config.json", _preprocessor())
    save_tokenizer(tokenizer, out, CONTEXT)
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)]
    # Of its voice, too: what it would rather not say is often another word.
    speech = {"talker_do_sample": False} if sections else {}
    GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=ends[1], **speech).save_pretrained(out)


def _painter(painter: Path, out: Path) -> None:
    """The painter's folders with their weights rounded to bfloat16."""
    for name, weights in PAINTER.items():
        folder = out / name
        folder.mkdir(exist_ok=True)
        for config in (painter / name).glob("*.json"):
            stored = {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"}
            _write(folder / config.name, stored)
        if weights is not None:
            rounded = {k: v.bfloat16().contiguous() for k, v in load_file(painter / name / weights).items()}
            save_file(rounded, folder / weights, {"format": "pt"})


def _config(tokenizer: Tokenizer, voice: dict[str, Any], draws: bool) -> dict[str, Any]:
    drawing = {"drawing": DRAWING} if draws else {}
    return (
        {
            "architectures": [
                "PicoForConditionalGeneration" if draws else "Qwen2_5OmniForConditionalGeneration"
            ],
            "model_type": "qwen2_5_omni",
            "dtype": "bfloat16",
            "enable_audio_output": bool(voice),
            "thinker_config": thinker_config(tokenizer).to_dict(),
        }
        | voice
        | drawing
    )


def _preprocessor() -> dict[str, Any]:
    """Pictures and sound in one file, as the published checkpoints have them."""
    return {
        "processor_class": "Qwen2_5OmniProcessor",
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": LEAST_PIXELS,
        "max_pixels": MOST_PIXELS,
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "image_mean": list(COLOURS.mean),
        "image_std": list(COLOURS.deviation),
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": BANDS,
        "sampling_rate": HEARD_RATE,
        "hop_length": HOP,
        "n_fft": 400,
        "chunk_length": LONGEST_FRAMES * HOP // HEARD_RATE,
        "n_samples": LONGEST_FRAMES * HOP,
        "nb_max_frames": LONGEST_FRAMES,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pico.assemble", description="Put pico's parts together.")
    parser.add_argument(
        "--work", type=Path, default=Path("build") / "pico", help="where the stages left what they made"
    )
    parser.add_argument("--out", type=Path, default=SHIPPED)
    chosen = parser.parse_args()
    voice, trained = chosen.work / "voice", chosen.work / "thinker.pt"
    tokenizer = Tokenizer.from_file(str(chosen.work / "text" / "tokenizer.json"))
    thinker = load_thinker(chosen.work, tokenizer).state_dict()
    draws = all((chosen.work / name).exists() for name in PAINTER)
    assemble(
        thinker, tokenizer, voice if voice.exists() else None, chosen.work if draws else None, chosen.out
    )
    print(
        f"saved {chosen.out}: thinker {'trained' if trained.exists() else 'of text alone'}, voice: {voice.exists()}, painter: {draws}"
    )


if __name__ == "__main__":
    main()
