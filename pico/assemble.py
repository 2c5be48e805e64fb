"""Puts pico together: `python -m pico.assemble`. The thinker, the voice if there is one, and what says how media are read.

The voice is what its stages left in the work folder's `voice`: `voice.safetensors` (talker and token2wav by their names in the
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
from .sight import COLOURS
from .speech import HEARD_RATE
from .tokenizer import END, END_OF_TEXT, save_tokenizer

WEIGHTS, SECTIONS, SPEAKERS = "voice.safetensors", "voice.json", "spk_dict.pt"


def assemble(thinker: dict[str, Tensor], tokenizer: Tokenizer, voice: Path | None, out: Path) -> None:
    """Writes the whole checkpoint to `out`, its weights rounded to bfloat16. `voice` is a folder, see above."""
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
    _write(out / "config.json", _config(tokenizer, sections))
    _write(out / "preprocessor_config.json", _preprocessor())
    save_tokenizer(tokenizer, out, CONTEXT)
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)]
    # Of its voice, too: what it would rather not say is often another word.
    speech = {"talker_do_sample": False} if sections else {}
    GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=ends[1], **speech).save_pretrained(out)


def _config(tokenizer: Tokenizer, voice: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "dtype": "bfloat16",
        "enable_audio_output": bool(voice),
        "thinker_config": thinker_config(tokenizer).to_dict(),
    } | voice


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
    assemble(thinker, tokenizer, voice if voice.exists() else None, chosen.out)
    print(
        f"saved {chosen.out}: thinker {'trained' if trained.exists() else 'of text alone'}, voice: {voice.exists()}"
    )


if __name__ == "__main__":
    main()
