"""The talker, trained on the frozen thinker: `python -m pico.voice.talker`.

It hears what it will hear in use: the prompt's rows, the mark that text begins, and then with every code that it said
one row of the reply, its end, and silence. To find its place in the text soon, one head of two layers is taught where to
look (as Tachibana et al. 2018 guide attention).
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniTalkerConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniTalkerForConditionalGeneration

from pico.tokenizer import MEDIA_TOKENS
from pico.training import Losses, learn, make_optimizers, options, split_parameters

from .codec import CODES, load_codec
from .lessons import Batch, Lesson, Marks, batch, lessons
from .rows import Thinker

STEPS, LESSONS = 7000, 24_000
BATCH_CODES = 3600
HEEDING, HEEDING_LAYERS = 0.3, (1, 2)
PENALTY = 1.05  # on codes that were said before, as Qwen2.5-Omni's talker is always sampled with
SLIPS = 0.15  # of the codes that go in are others than were said: what is to be said stands in the text
NOISE = 0.01  # of the rows: the thinker that is heard in use computes with other rounding
PAD, BEGIN, END, MASK = range(CODES + 1, CODES + 5)
VOCABULARY = CODES + 8
FILE = "talker.safetensors"


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The section `talker_config` of config.json."""
    names = {"audio_token_index": "audio_token", "image_token_index": "image_token", "video_token_index": "video_token",
             "audio_start_token_id": "audio_bos_token", "audio_end_token_id": "audio_eos_token",
             "vision_start_token_id": "vision_bos_token", "vision_end_token_id": "vision_eos_token"}  # fmt: skip
    speech = {"start": "bos", "end": "eos", "pad": "pad"}
    return {
        **{field: tokenizer.token_to_id(MEDIA_TOKENS[name]) for field, name in names.items()},
        **{
            f"tts_text_{field}_token_id": tokenizer.token_to_id(f"<|tts_{name}|>")
            for field, name in speech.items()
        },
        "tts_codec_pad_token_id": PAD,
        "tts_codec_start_token_id": BEGIN,
        "tts_codec_end_token_id": END,
        "tts_codec_mask_token_id": MASK,
        "vocab_size": VOCABULARY,
        "embedding_size": 256,
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
        "pad_token_id": None,
    }


def build(tokenizer: Tokenizer) -> Qwen2_5OmniTalkerForConditionalGeneration:
    torch.manual_seed(0)
    talker = Qwen2_5OmniTalkerForConditionalGeneration(Qwen2_5OmniTalkerConfig(**config(tokenizer)))
    talker.set_attn_implementation("eager")  # whose weights can be taught
    nn.init.normal_(talker.model.embed_tokens.weight, std=0.5)
    return talker


def losses(talker: nn.Module, given: Batch) -> Losses:
    """Of the codes, and of where the guided heads look."""
    spread = given.rows.std()
    embedded = talker.model.embed_tokens(given.codes.clamp(min=0)).masked_fill(
        (given.codes < 0)[..., None], 0
    )
    rows = given.rows + NOISE * spread * torch.randn_like(given.rows)
    places = torch.arange(rows.shape[1]).expand(3, len(rows), -1)
    with torch.autocast("cpu", torch.bfloat16):
        out = talker.model(
            inputs_embeds=talker.thinker_to_talker_proj(rows + embedded),
            position_ids=places,
            use_cache=False,
            output_attentions=True,
        )
        learned = given.targets >= 0
        logits = talker.codec_head(out.last_hidden_state[learned]).float()
    logits = penalized(logits, said_before(given.codes)[learned])
    targets = given.targets[learned]
    said = F.cross_entropy(logits, targets)
    heeded = given.heed >= 0
    heeding = torch.stack(
        [_heeding(out.attentions[layer][:, 0], given.heed, heeded) for layer in HEEDING_LAYERS]
    ).mean()
    right = (logits.argmax(-1) == targets).float().mean()
    return {"loss": said + HEEDING * heeding, "said": said, "heeding": heeding, "right": right}


def said_before(codes: Tensor) -> Tensor:
    """Which codes went in up to each place, bool [lessons, length, vocabulary]; `codes` as in `Batch`."""
    said = F.one_hot(codes.clamp(min=0), VOCABULARY).masked_fill((codes < 0)[..., None], 0)
    return said.cumsum(1) > 0


def penalized(logits: Tensor, said: Tensor) -> Tensor:
    """What is sampled from in use: codes that were `said` before are a little less likely (Keskar et al. 2019)."""
    return torch.where(said, torch.where(logits > 0, logits / PENALTY, logits * PENALTY), logits)


def _heeding(weights: Tensor, heed: Tensor, heeded: Tensor) -> Tensor:
    """How surprised attention [batch, length, length] is by the places that should be looked at."""
    looked = weights[heeded].gather(1, heed[heeded][:, None])
    return -(looked.float() + 1e-4).log().mean()


def draw(rng: Random, data: list[Lesson]) -> list[Lesson]:
    """Lessons of about the same length, beginning anywhere; `data` is in order of length."""
    start = rng.randrange(len(data))
    length = len(data[start].codes) + 24
    return data[start : start + max(4, BATCH_CODES // length)]


def main() -> None:
    chosen = options("voice.talker", "Train pico's talker.", STEPS)
    thinker = Thinker.load(chosen.work)
    talker = build(thinker.tokenizer)
    data = lessons("talker", "train", LESSONS, thinker, load_codec(chosen))
    data.sort(key=lambda one: len(one.codes))
    marks = Marks.of(thinker)
    print(f"{len(data)} lessons, {sum(len(one.codes) for one in data):,} codes", flush=True)

    def step(rng: Random) -> Losses:
        return losses(talker, batch(rng, draw(rng, data), marks, (PAD, BEGIN, END)))

    learn("talker", talker, make_optimizers(*split_parameters(talker, talker.model.layers)), chosen, step)
    save_file({key: value.contiguous() for key, value in talker.state_dict().items()}, chosen.work / FILE)


if __name__ == "__main__":
    main()
