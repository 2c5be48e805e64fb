"""The talker: a decoder that turns what the thinker writes into frames of speech, several codes each.

It begins when it has heard the user's turns and the first word of the answer; with each frame it hears one more of the
thinker's tokens, and when there are no more, that the text has ended, and then silence. It chooses a frame's first code
itself; the code predictor makes the others; all of them together are what it embeds for the next frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.kernels import activate
from tutti.layers.linear import Linear
from tutti.layers.parameters import Named, prefixed
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.grids import grid_positions
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.speakers import choose
from tutti.models.qwen3_omni.config import predictor_config, talker_config
from tutti.models.qwen3_omni.frames import FrameDecoder
from tutti.models.qwen3_omni.predictor import CodePredictor
from tutti.models.qwen3_omni.turns import OPENING, heard_media, marks, read
from tutti.models.reading import activation, require
from tutti.models.standard import EXPERTS, TABLE
from tutti.models.weights import Entry, renamed
from tutti.request import Request, SamplingParams

OTHERS = (r"thinker\..*", r"code2wav\..*")
LONGEST = 4096  # frames for one answer; 12.5 a second
FIRST_VOICE = "ethan"  # who speaks unless another is asked for

_MLP = "talker.model.layers.{}.mlp"
_PREDICTOR = "talker.code_predictor"


class Projection:
    """From the thinker's width to the talker's: down(act(up(x)))."""

    def __init__(self, width: int, section: Mapping[str, Any]) -> None:
        self.up = Linear(width, require(section, "intermediate_size"), bias=True)
        self.down = Linear(require(section, "intermediate_size"), require(section, "hidden_size"), bias=True)
        self.activation = activation(section, "hidden_act")

    def parameters(self) -> Named:
        """`up` and `down`."""
        yield "up", self.up
        yield "down", self.down

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [tokens, thinker's width] -> [tokens, hidden]."""
        return self.down(activate(self.up(x), self.activation))


class Talker(FrameDecoder):
    """Implements `models.protocols.FollowsRows`, `CompletesTokens` and `PlacesTokens`."""

    def __init__(
        self, config: DecoderConfig, device: torch.device, context: int | None, whole: Mapping[str, Any]
    ) -> None:
        """`whole` is all of config.json."""
        section = part(whole, "talker_config")
        speakers = _speakers(section)
        names = ("nothink_id", "think_bos_id", "think_eos_id", "pad_id", "bos_id")
        special = {name: int(require(section, f"codec_{name}")) for name in names}
        end = int(require(section, "codec_eos_token_id"))
        used = {end, *special.values(), *speakers.values()}
        predictor = CodePredictor(predictor_config(whole), require(section, "num_code_groups") - 1, device)
        blank = max(set(range(config.vocab)) - used)
        super().__init__(config, device, context, predictor, blank=blank, end=end)
        text = part(section, "text_config")
        width = part(whole, "thinker_config", "text_config")["hidden_size"]
        self.text_projection, self.hidden_projection = Projection(width, text), Projection(width, text)
        self.marks = marks(whole)
        self.signs = [
            int(require(whole, f"tts_{name}_token_id")) for name in ("bos", "eos", "pad")
        ]  # the thinker's
        self.speakers, self.special = speakers, special
        self.voices = tuple(self.speakers)
        self.sampling = SamplingParams(temperature=0.9, top_k=50, repetition_penalty=1.05, max_tokens=LONGEST)

    def parameters(self) -> Named:
        """The decoder's and the predictor's, `text_projection.*` and `hidden_projection.*`."""
        yield from super().parameters()
        yield from prefixed("text_projection", self.text_projection.parameters())
        yield from prefixed("hidden_projection", self.hidden_projection.parameters())

    def prompt(self, request: Request) -> list[int]:
        """See `FollowsRows.prompt`: nothing for what the user and the template say, then what begins speech."""
        speaker = choose(self.speakers, request.voice)
        special = self.special
        begin = [special[name] for name in ("nothink_id", "think_bos_id", "think_eos_id")]
        silent = read(request, self.marks).heard + OPENING
        return [self.blank] * silent + [*begin, speaker, special["pad_id"], special["bos_id"]]

    def positions(self, request: Request) -> np.ndarray:
        """See `PlacesTokens.positions`: those of the user's turns, and what follows in a line."""
        turns = read(request, self.marks)
        return grid_positions(turns.heard + OPENING + 6, heard_media(request, turns))


def _speakers(section: Mapping[str, Any]) -> dict[str, int]:
    """The voices' codes by name, the main one first. Raises CheckpointError."""
    speakers = {str(name): int(code) for name, code in (section.get("speaker_id") or {}).items()}
    if not speakers:
        raise CheckpointError("config.json: talker_config has no speaker_id, which names the voices")
    return dict(sorted(speakers.items(), key=lambda one: one[0].lower() != FIRST_VOICE))


def _table() -> dict[str, Entry]:
    """The talker's parameters, and those of what it has inside."""
    projections = {
        f"{name}.{ours}": f"talker.{name}.linear_{theirs}"
        for name in ("text_projection", "hidden_projection")
        for ours, theirs in (("up", "fc1"), ("down", "fc2"))
    }
    predictor = {f"predictor.{ours}": entry for ours, entry in renamed(TABLE, "", f"{_PREDICTOR}.").items()}
    return {
        **renamed(TABLE | EXPERTS, "model.", "talker.model."),
        "embed": "talker.model.codec_embedding",
        "head": "talker.codec_head",
        "layers.{}.feed_forward.shared.up": (
            f"{_MLP}.shared_expert.gate_proj",
            f"{_MLP}.shared_expert.up_proj",
        ),
        "layers.{}.feed_forward.shared.down": f"{_MLP}.shared_expert.down_proj",
        "layers.{}.feed_forward.shared_gate": f"{_MLP}.shared_expert_gate",
        **projections,
        **predictor,
        "predictor.heads.{}.linear": f"{_PREDICTOR}.lm_head.{{}}",
        "predictor.tables.{}.rows": f"{_PREDICTOR}.model.codec_embedding.{{}}",
    }


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""

    def kind(config: DecoderConfig, device: torch.device, context: int | None) -> Talker:
        return Talker(config, device, context, checkpoint.config)

    return decoder.build(checkpoint, options, talker_config(checkpoint.config), _table(), OTHERS, kind=kind)
