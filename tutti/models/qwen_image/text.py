"""Prompts by Qwen-Image's text encoder: the last hidden states of the prompt within the model's own instruction.

A model that edits has it look at the pictures, too; they stand in the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutti.errors import InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer, value
from tutti.models.drawing.text import PromptEncoder, check_length
from tutti.models.processor.media import unpack
from tutti.models.qwen2_vl.media import Pixels, fitted, pixels
from tutti.models.qwen2_vl.vision import Patches, patches
from tutti.models.qwen_image.config import TOKENS, edits, takes_several
from tutti.request import MediaInput, Text

# The instructions that the networks were trained with; the states of their first tokens are dropped.
_BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
_DROPPED = 34
_BEFORE_PICTURES = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where "
    "appropriate.<|im_end|>\n<|im_start|>user\n"
)
_DROPPED_PICTURES = 64
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_PLACE = "<|image_pad|>"  # a token of a picture


class QwenImageText(PromptEncoder):
    """Conditions are ([tokens, width],)."""

    def __init__(self, encoder: Any, tokenizer: Any, device: str) -> None:
        super().__init__(device, TOKENS + _DROPPED)
        self.encoder = encoder
        self.tokenizer = tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        ids = self.rows(self.tokenizer(_BEFORE + prompt + _AFTER).input_ids)
        states = self.encoder.model(input_ids=ids, use_cache=False).last_hidden_state
        return (states[0, _DROPPED:],)


@dataclass(frozen=True, slots=True, eq=False)
class Illustrated:
    """A prompt, and the pictures that are read with it."""

    prompt: str
    pictures: tuple[Patches, ...]


class QwenImageEditText:
    """See `models.protocols.OnceModel`; conditions as `QwenImageText`'s, with the tokens of the pictures.

    Pictures stand where they are in the rows and columns of the encoder's positions, as it was trained. (diffusers
    0.42 beside transformers 5 leaves that out, and counts their tokens like words.)
    """

    def __init__(self, encoder: Any, tokenizer: Any, device: str, how: Pixels, *, numbered: bool) -> None:
        """`how` pictures become patches; `numbered`: each is announced by its number."""
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.how = how
        self.numbered = numbered

    def take(self, part: Text) -> Illustrated:
        """See `OnceModel.take`. Raises InvalidMedia on a picture that is a mere line."""
        return Illustrated(part.text, tuple(map(self._patches, part.pictures)))

    def cost(self, item: Illustrated) -> int:
        """See `OnceModel.cost`: tokens at most."""
        return TOKENS + sum(map(self._tokens, item.pictures))

    def bucket(self, item: Illustrated) -> None:
        """See `OnceModel.bucket`."""
        return

    def run(self, items: list[Illustrated]) -> list[Condition]:
        """See `OnceModel.run`: each by itself, so none is padded. Raises InvalidRequest."""
        return [self._encode(item.prompt, item.pictures) for item in items]

    def _encode(self, prompt: str, pictures: Sequence[Patches]) -> Condition:
        counts = list(map(self._tokens, pictures))
        sights = "".join(
            (f"Picture {number}: " if self.numbered else "")
            + f"<|vision_start|>{_PLACE * count}<|vision_end|>"
            for number, count in enumerate(counts, 1)
        )
        ids: list[int] = self.tokenizer(_BEFORE_PICTURES + sights + prompt + _AFTER).input_ids
        place = self.encoder.config.image_token_id
        if ids.count(place) != sum(counts):
            raise InvalidRequest(
                f"the prompt has {_PLACE} in it, which stands for pictures: leave it out", param="prompt"
            )
        check_length(len(ids) - sum(counts), TOKENS + _DROPPED_PICTURES)
        rows = torch.tensor([ids], device=self.device)
        states = self.encoder.model(
            input_ids=rows,
            attention_mask=torch.ones_like(rows),
            pixel_values=torch.cat([one.values for one in pictures]).to(self.device),
            image_grid_thw=torch.tensor([one.grid for one in pictures], device=self.device),
            mm_token_type_ids=(rows == place).int(),
            use_cache=False,
        ).last_hidden_state
        return (states[0, _DROPPED_PICTURES:],)

    def _patches(self, picture: MediaInput) -> Patches:
        from tutti.media.image import resize

        values, how = unpack(picture.arrays["pixels"]), self.how
        height, width = values.shape[:2]
        size = fitted(height, width, how.patch * how.merge, how.least, how.most)
        return patches(torch.from_numpy(resize(values, *size).copy())[None], how)

    def _tokens(self, picture: Patches) -> int:
        return len(picture.values) // self.how.merge**2


def build(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageText | QwenImageEditText:
    """The stage's model."""
    encoder = load_module(checkpoint, "text_encoder", options)
    tokenizer = load_tokenizer(checkpoint, "tokenizer")
    if not edits(checkpoint.config):
        return QwenImageText(encoder, tokenizer, options.device)
    how = pixels(checkpoint.path / "processor", value(checkpoint.config, "text_encoder", "vision_config"))
    return QwenImageEditText(
        encoder, tokenizer, options.device, how, numbered=takes_several(checkpoint.config)
    )
