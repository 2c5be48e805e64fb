"""Pictures by transformers' thinker and diffusers' Z-Image pipeline: the examiner's reference, independent of Tutti's engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from PIL.Image import Image
from torch import Tensor

from .engine import Prompt
from .evaluate import LONGEST_ANSWER
from .tokenizer import MEDIA_TOKENS
from .transformers_engine import TransformersEngine

BATCH = 32


@dataclass(frozen=True, slots=True)
class Painted:
    """An answer with its special tokens but for the end mark, and the picture that follows it; None without the sign."""

    answer: str
    picture: Image | None


class DiffusersEngine:
    def __init__(
        self, thinker: TransformersEngine, pipeline: ZImagePipeline, drawing: dict[str, Any]
    ) -> None:
        """`drawing` is the section of that name of config.json."""
        self.thinker, self.pipeline, self.drawing = thinker, pipeline, drawing
        self.sign = thinker.tokenizer.token_to_id(MEDIA_TOKENS["vision_bos_token"])
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, directory: Path, steps: int | None = None, guidance: float | None = None
    ) -> DiffusersEngine:
        """The checkpoint in float32; `steps` and `guidance` as config.json says if they are not given."""
        drawing = json.loads((directory / "config.json").read_text())["drawing"]
        drawing |= {k: v for k, v in (("steps", steps), ("guidance", guidance)) if v is not None}
        parts: dict[str, Any] = {
            "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(directory / "scheduler"),
            "vae": AutoencoderKL.from_pretrained(directory / "vae", torch_dtype=torch.float32),
            "transformer": ZImageTransformer2DModel.from_pretrained(
                directory / "transformer", torch_dtype=torch.float32
            ),
        }
        pipeline = ZImagePipeline(**parts, text_encoder=None, tokenizer=None)
        return cls(TransformersEngine.load(directory), pipeline, drawing)

    def draw(self, prompts: Sequence[Prompt], seed: int) -> list[Painted]:
        """Each prompt answered, and the picture that its answer promises; noise comes from `seed` and the prompt's place."""
        told = self.tell(prompts)
        pictures: dict[int, Image] = {}
        signed = [index for index, (_, rows) in enumerate(told) if rows is not None]
        for start in range(0, len(signed), BATCH):
            chosen = signed[start : start + BATCH]
            rows = [told[index][1] for index in chosen]
            drawn = self.paint([r for r in rows if r is not None], [seed + index for index in chosen])
            pictures |= dict(zip(chosen, drawn, strict=True))
        return [Painted(answer, pictures.get(index)) for index, (answer, _) in enumerate(told)]

    def tell(self, prompts: Sequence[Prompt]) -> list[tuple[str, Tensor | None]]:
        """The answers, and of those that bear the sign the rows that condition the painter, float32 [tokens, width]."""
        told: list[tuple[str, Tensor | None]] = [("", None)] * len(prompts)
        written = [i for i, p in enumerate(prompts) if p.sound is None and p.picture is None]
        for start in range(0, len(written), BATCH):
            chosen = written[start : start + BATCH]
            given = self._told(**self.thinker.written([prompts[i].text for i in chosen]))
            for index, one in zip(chosen, given, strict=True):
                told[index] = one
        for index in set(range(len(prompts))) - set(written):
            told[index] = self._told(**self.thinker.shown(prompts[index]))[0]
        return told

    @torch.inference_mode()
    def _told(self, **inputs: Any) -> list[tuple[str, Tensor | None]]:
        greedy = self.thinker.greedy(LONGEST_ANSWER)
        out = self.thinker.model.generate(
            **inputs, **greedy, output_hidden_states=True, return_dict_in_generate=True
        )
        answers = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        # The first step reads the prompt, each later one a token of the answer.
        states = torch.stack([step[-1][:, -1] for step in out.hidden_states[1:]], 1)
        return [
            self._read(tokens, rows, greedy["eos_token_id"])
            for tokens, rows in zip(answers, states, strict=True)
        ]

    def _read(self, tokens: list[int], states: Tensor, ends: list[int]) -> tuple[str, Tensor | None]:
        length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        answer: str = self.thinker.tokenizer.decode(tokens[:length], skip_special_tokens=False)
        if self.sign not in tokens[:length]:
            return answer, None
        return answer, states[: tokens.index(self.sign)][: self.drawing["rows"]].float()

    @torch.inference_mode()
    def paint(self, rows: list[Tensor], seeds: list[int]) -> list[Image]:
        """Pictures for captions [tokens, width] each."""
        size = self.drawing["size"]
        pictures: list[Image] = self.pipeline(
            prompt_embeds=rows,
            negative_prompt_embeds=[torch.zeros_like(one[:1]) for one in rows],
            height=size,
            width=size,
            num_inference_steps=self.drawing["steps"],
            guidance_scale=self.drawing["guidance"],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
        return pictures
