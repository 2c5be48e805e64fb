"""The talker, trained on the frozen thinker: `python -m pico.voice.talker`.

It hears what it will hear in use: the prompt's rows, the mark that text begins, and then with every code that it said
one row of the reply, its end, and silence. To find its place in the text soon, one head of two layers is taught where to
look (as Tachibana et al. 2018 guide attention), and behind them it is asked which token stands there. What it said so far
tells well enough how a word goes on, and so it would learn sentences by heart: now and then it hears itself slip.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniTalkerConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniTalkerForConditionalGeneration

from pico.decoder import Through, normed, through_layer, through_layers
from pico.tokenizer import MEDIA_TOKENS
from pico.training import Losses, compiled, learn, make_optimizers, options, split_parameters

from .batches import Batch, Lesson, batch
from .codec import CODES
from .lessons import taught
from .rows import Thinker

STEPS = 8_000
BATCH_PLACES = 4096
HEEDING, HEEDING_LAYERS = 0.3, (1, 2)
NAMING, NAMED = (
    0.3,
    1024,
)  # how much it counts to know which token is being said, and at how many places it is asked
PENALTY = 1.05  # on codes that were said before, as Qwen2.5-Omni's talker is always sampled with
RATE = 0.5  # of the usual rates of learning
SLIPS = 0.6  # of the lessons
ECHOES = 0.4  # of the batches: the talker hears what it would have said
NOISE = 0.01  # of the rows: the thinker that is heard in use computes with other rounding
PAD, BEGIN, END, MASK = range(CODES + 1, CODES + 5)
VOCABULARY = CODES + 8
FILE = "talker.safetensors"
START = "talker.start.safetensors"  # an earlier talker to go on from, if it is there


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
    nn.init.normal_(talker.model.embed_tokens.weight, std=0.5)
    return talker


class Learner(nn.Module):
    """The talker, and the question that it is asked while it learns: which token of the text is it saying?"""

    def __init__(
        self, talker: Qwen2_5OmniTalkerForConditionalGeneration, tokens: int, compiles: bool = False
    ) -> None:
        """`compiles`: whether its layers are compiled, which pays when there are many lessons."""
        super().__init__()
        self.through, self.compare = compiled(through_layer, compiles), compiled(compared, compiles)
        self.talker = talker
        self.names = nn.Linear(talker.config.hidden_size, tokens)


def losses(learner: Learner, given: Batch, echoed: bool = False) -> Losses:
    """Of the codes, of where the guided heads look, and of the name of what stands there."""
    codes = echo(learner.talker, given, learner.through) if echoed else given.codes
    heeded = given.heed >= 0
    with torch.autocast("cpu", torch.bfloat16):
        states, looks = listen(learner.talker, given.rows, codes, learner.through, HEEDING_LAYERS)
        logits = learner.talker.codec_head(normed(states[-1], learner.talker.model.norm))
        asked = torch.randperm(int(heeded.sum()))[:NAMED]
        named = learner.names(states[HEEDING_LAYERS[-1]][heeded][asked]).float()
    said, right = learner.compare(logits, codes, given.targets)
    naming = F.cross_entropy(named, given.saying[heeded][asked])
    heeding = torch.stack([_heeding(look, given.heed, heeded) for look in looks]).mean()
    return {
        "loss": said + HEEDING * heeding + NAMING * naming,
        "said": said,
        "heeding": heeding,
        "naming": naming,
        "right": right,
    }


def compared(logits: Tensor, codes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of saying `targets`, and the share of them that is likeliest; all as in `Batch`."""
    likely = penalized(logits.float(), said_before(codes)).flatten(0, 1)
    wanted, learned = targets.flatten(), targets.flatten() >= 0
    right = ((likely.argmax(-1) == wanted) & learned).sum() / learned.sum()
    return F.cross_entropy(likely, wanted), right


def listen(
    talker: Qwen2_5OmniTalkerForConditionalGeneration,
    rows: Tensor,
    codes: Tensor,
    through: Through,
    looking: tuple[int, ...] = (),
) -> tuple[list[Tensor], list[Tensor]]:
    """The talker's states over rows [lessons, length, width] and codes as in `Batch`, as `through_layers` gives them."""
    embedded = talker.model.embed_tokens(codes.clamp(min=0)).masked_fill((codes < 0)[..., None], 0)
    noisy = rows + NOISE * rows.std() * torch.randn_like(rows)
    entered = talker.thinker_to_talker_proj(noisy + embedded).float()
    positions = torch.arange(rows.shape[1]).expand(3, 1, -1)
    return through_layers(talker.model, entered, positions, through, looking)


@torch.no_grad()
def echo(
    talker: Qwen2_5OmniTalkerForConditionalGeneration, given: Batch, through: Through = through_layer
) -> Tensor:
    """The codes with some drawn by the talker itself after what stood before them: its own mistakes, which are other ones
    than a slip's (scheduled sampling in parallel: Mihaylova and Martins 2019)."""
    with torch.autocast("cpu", torch.bfloat16):
        states, _ = listen(talker, given.rows, given.codes, through)
        logits = talker.codec_head(normed(states[-1], talker.model.norm))
    likely = penalized(logits.float(), said_before(given.codes)).softmax(-1)
    drawn = torch.multinomial(likely.flatten(0, 1), 1).view(given.codes.shape)[:, :-1]
    share = torch.rand(len(drawn), 1)
    changed = _is_code(given.codes[:, 1:]) & _is_code(drawn)
    changed &= torch.rand(drawn.shape) < share
    return torch.cat([given.codes[:, :1], torch.where(changed, drawn, given.codes[:, 1:])], 1)


def _is_code(codes: Tensor) -> Tensor:
    """Which of them are sound, and no mark."""
    return (codes >= 1) & (codes <= CODES)


def said_before(codes: Tensor) -> Tensor:
    """Which codes went in up to each place, bool [lessons, length, vocabulary]; `codes` as in `Batch`."""
    places = torch.arange(codes.shape[1]).expand_as(codes)
    never = codes.shape[1]
    first = torch.full((len(codes), VOCABULARY), never).scatter_reduce(
        1, codes.clamp(min=0), places.masked_fill(codes < 0, never), "amin"
    )
    return first[:, None] <= torch.arange(codes.shape[1])[:, None]


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
    length = len(data[start].codes) + 12
    return data[start : start + max(4, BATCH_PLACES // length)]


def _length(lesson: Lesson) -> int:
    return len(lesson.codes)


def main() -> None:
    chosen = options("voice.talker", "Train pico's talker.", STEPS)
    thinker = Thinker.load(chosen.work)
    data, unseen = (sorted(thinker.tell(part), key=_length) for part in taught(chosen.work))
    learner = Learner(build(thinker.tokenizer), thinker.tokenizer.get_vocab_size(), compiles=True)
    if (chosen.work / START).exists():
        learner.talker.load_state_dict(load_file(chosen.work / START))
    marks = thinker.marks()
    print(f"{len(data)} lessons, {sum(len(one.codes) for one in data):,} codes", flush=True)

    def step(rng: Random) -> Losses:
        given = batch(rng, draw(rng, data), marks, (PAD, BEGIN, END), SLIPS, BATCH_PLACES)
        return losses(learner, given, echoed=rng.random() < ECHOES)

    @torch.no_grad()
    def examine() -> Losses:
        parts = [
            batch(Random(0), unseen[i : i + 32], marks, (PAD, BEGIN, END)) for i in range(0, len(unseen), 32)
        ]
        found = [losses(learner, part) for part in parts]
        return {
            name: torch.stack([one[name] for one in found]).mean() for name in ("said", "naming", "right")
        }

    layers = learner.talker.model.layers
    learn(
        "talker",
        learner,
        make_optimizers(*split_parameters(learner, layers), rate=RATE),
        chosen,
        step,
        examine,
    )
    talker = {key: value.contiguous() for key, value in learner.talker.state_dict().items()}
    save_file(talker, chosen.work / FILE)


if __name__ == "__main__":
    main()
