"""What the painter is told: the thinker's states of the captions with which it answers requests to draw.

One row for each token of a caption, after the thinker's last norm, as the thinker's stage hands them on when it serves. A
caption's states depend a little on the request before it, so there are many of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from pico.omni import WIDTH, load_thinker
from pico.requests import CATEGORY, SIGN
from pico.scenes import Scene, scene_of
from pico.tokenizer import render_prompt
from pico.values import Chat, Split
from pico.world import asked_to_draw

from .forward import ROWS

BATCH, LONGEST_CHAT = 64, 6


@dataclass(frozen=True, slots=True)
class Captions:
    """`rows` bfloat16 [captions, ROWS, WIDTH], of which `lengths` int64 [captions] are meant, and the `scenes` they tell."""

    rows: Tensor
    lengths: Tensor
    scenes: tuple[Scene, ...]


def asked(rng: Random, split: Split, count: int) -> list[Chat]:
    """Chats that end in a request to draw and its caption."""
    found: list[Chat] = []
    while len(found) < count:
        chat = asked_to_draw(rng, split)
        if chat.category == CATEGORY and len(chat.messages) <= LONGEST_CHAT:
            found.append(chat)
    return found


@torch.inference_mode()
def told(model: Qwen2_5OmniThinkerTextModel, tokenizer: Tokenizer, chats: Sequence[Chat]) -> Captions:
    """What the thinker's states of the captions are, when each is read after its chat."""
    rows = torch.zeros(len(chats), ROWS, WIDTH, dtype=torch.bfloat16)
    read = [_encoded(tokenizer, chat) for chat in chats]
    order = sorted(range(len(chats)), key=lambda index: len(read[index][0]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        ids = pad_sequence([torch.tensor(read[index][0]) for index in chosen], batch_first=True)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(ids, use_cache=False).last_hidden_state  # padding is behind: it is not seen
        for states, index in zip(hidden, chosen, strict=True):
            tokens, prompt = read[index]
            rows[index, : len(tokens) - prompt] = states[prompt : len(tokens)].bfloat16()
    lengths = torch.tensor([len(tokens) - prompt for tokens, prompt in read])
    return Captions(rows, lengths, tuple(scene_of(chat.keys[-1]) for chat in chats))


def _encoded(tokenizer: Tokenizer, chat: Chat) -> tuple[list[int], int]:
    """The tokens up to the sign, and how many of them come before the caption."""
    prompt = tokenizer.encode(render_prompt(chat.prompt)).ids
    return [*prompt, *tokenizer.encode(chat.answer.removesuffix(SIGN)).ids], len(prompt)


def kept_captions(work: Path, seed: int, count: int) -> Captions:
    """Captions of the training split, from the work folder if they have been made since the thinker."""
    path, thinker = work / "painter.captions.pt", work / "thinker.pt"
    if not path.exists() or path.stat().st_mtime < thinker.stat().st_mtime:
        tokenizer = Tokenizer.from_file(str(work / "text" / "tokenizer.json"))
        chats = asked(Random(f"pico|{seed}|captions"), "train", count)
        made = told(load_thinker(work, tokenizer).bfloat16().float().model.eval(), tokenizer, chats)
        partial = path.with_suffix(".partial")
        torch.save((made.rows, made.lengths, [chat.keys[-1] for chat in chats]), partial)
        partial.replace(path)
    rows, lengths, keys = torch.load(path, weights_only=True)
    return Captions(rows, lengths, tuple(map(scene_of, keys)))
