"""Tiny unified models: they see, hear, write, speak and draw, and whatever they are asked, they say `SAYS`."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file, save_file

from tests.models import checkpoints
from tests.models.pipelines import plain_vae, z_image_transformer
from tests.models.talking_checkpoints import roomy

SIGN = checkpoints.BOS
SAYS = "Big dots"
SIZE = 24
STEPS, GUIDANCE = 3, 2.0


@functools.cache
def drawing() -> Path:
    """The model whose answer ends with the sign of a picture."""
    return _made("unified", draws=True)


@functools.cache
def refusing() -> Path:
    """The same, but for the sign."""
    return _made("unified-that-refuses", draws=False)


@functools.cache
def pipeline() -> diffusers.ZImagePipeline:
    """diffusers' pipeline of the painter, which takes rows for a prompt."""
    folder = drawing()
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.ZImageTransformer2DModel.from_pretrained(folder / "transformer"),
    )


def _made(name: str, *, draws: bool) -> Path:
    path = roomy().with_name(name)
    shutil.copytree(roomy(), path)
    config = json.loads((path / "config.json").read_text())
    sign = next(text for text, token in checkpoints.SPECIALS.items() if token == SIGN)
    config["architectures"] = ["PicoForConditionalGeneration"]
    config["drawing"] = {"steps": STEPS, "guidance": GUIDANCE, "size": SIZE, "sign": sign, "rows": 8}
    (path / "config.json").write_text(json.dumps(config))
    _decide(path, [*SAYS.encode(), *([SIGN] if draws else []), checkpoints.EOS])
    for folder, component in _painter().items():
        component.save_pretrained(path / folder)
    return path


def _decide(path: Path, answer: list[int]) -> None:
    """Have the thinker write `answer`, which has no token twice, behind a line's end.

    Its layers add little to the embeddings, and the head knows which token follows which.
    """
    (file,) = path.glob("*.safetensors")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.startswith("thinker.model.layers.") and (".o_proj." in name or ".down_proj." in name):
            tensor.mul_(0.06)
    tensors["thinker.model.norm.weight"].fill_(1)
    embedding, head = tensors["thinker.model.embed_tokens.weight"], tensors["thinker.lm_head.weight"]
    head.zero_()
    for before, after in itertools.pairwise([ord("\n"), *answer]):
        head[after] += 10 * torch.nn.functional.normalize(embedding[before], dim=0)
    save_file(tensors, file, {"format": "pt"})


def _painter() -> dict[str, Any]:
    return {
        "transformer": z_image_transformer(checkpoints.BASE["hidden_size"]),
        "vae": plain_vae(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
