"""The talker: a decoder that reads the text and makes frames of speech, several codes each.

It chooses a frame's first code itself; the code predictor makes the others; all of them together are what it embeds for
the next frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint, read_json
from tutti.graph import BuildOptions
from tutti.layers.parameters import Named, prefixed
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.decoder import Decoder
from tutti.models.protocols import ForwardInputs
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.predictor import CodePredictor, Drawing
from tutti.models.qwen3_tts.config import SPECIAL_CODES, predictor_config, talker_config
from tutti.models.qwen3_tts.prompt import Prompts
from tutti.models.reading import require
from tutti.models.standard import TABLE
from tutti.models.weights import Entry, renamed
from tutti.request import Request, SamplingParams

OTHERS = (r"talker\.model\.text_embedding\..*", r"talker\.text_projection\..*", r"speaker_encoder\..*")
LONGEST = 2048  # frames for one text, unless generation_config.json says otherwise; 12.5 a second
_LEAST = 2  # frames

_PREDICTOR = "talker.code_predictor"


class Talker(Decoder):
    """Implements `models.protocols.FollowsRows` and `CompletesTokens`.

    A token's input is its row plus the embeddings of its codes; prompt tokens that have no code are blank.
    """

    def __init__(
        self,
        config: DecoderConfig,
        device: torch.device,
        context: int | None,
        whole: Mapping[str, Any],
        generation: Mapping[str, Any],
    ) -> None:
        """`whole` is all of config.json, `generation` all of generation_config.json."""
        super().__init__(config, device, context)
        self.prompts = Prompts.of(whole)
        self.voices = tuple(self.prompts.voices)
        self.further = int(require(part(whole, "talker_config"), "num_code_groups")) - 1
        self.predictor = CodePredictor(
            predictor_config(whole), self.further, device, config.hidden, _drawing(generation)
        )
        end = self.prompts.special["eos_token_id"]
        self.eos_ids = frozenset((end,))
        self.sampling = _sampling(generation)
        self._unsaid = torch.arange(config.vocab, device=device) >= config.vocab - SPECIAL_CODES
        self._unsaid[end] = False

    def parameters(self) -> Named:
        """The decoder's, and `predictor.*`."""
        yield from super().parameters()
        yield from prefixed("predictor", self.predictor.parameters())

    def prompt(self, request: Request) -> list[int]:
        """See `FollowsRows.prompt`."""
        return self.prompts.codes(request)

    def begin(self, inputs: ForwardInputs) -> Tensor:
        """The first layer's input [tokens, hidden]."""
        assert inputs.embeds is not None and inputs.codes is not None
        embedded = self.embed(inputs.tokens)
        embedded = embedded.masked_fill((inputs.tokens == self.prompts.blank)[:, None], 0)
        framed = (inputs.codes[:, 0] >= 0).nonzero().flatten()
        if len(framed):
            embedded[framed] += self.predictor.embed_codes(inputs.codes[framed])
        return embedded + inputs.embeds.to(embedded.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the codes, and of the one that ends speech."""
        return super().logits(hidden).masked_fill(self._unsaid, -math.inf)

    @torch.inference_mode()
    def complete(self, hidden: Tensor, tokens: Tensor, uniforms: Tensor) -> Tensor:
        """See `CompletesTokens.complete`."""
        return self.predictor.predict(hidden, self.embed(tokens), uniforms)


def _sampling(generation: Mapping[str, Any]) -> SamplingParams:
    """How first codes are chosen, by generation_config.json."""
    return SamplingParams(
        temperature=generation.get("temperature", 0.9) if generation.get("do_sample", True) else 0.0,
        top_k=generation.get("top_k", 50),
        top_p=generation.get("top_p", 1.0),
        repetition_penalty=generation.get("repetition_penalty", 1.05),
        max_tokens=generation.get("max_new_tokens", LONGEST),
        min_tokens=_LEAST,
    )


def _drawing(generation: Mapping[str, Any]) -> Drawing:
    """How further codes are chosen, where they are drawn."""
    return Drawing(
        generation.get("subtalker_top_k", 50),
        generation.get("subtalker_top_p", 1.0),
        generation.get("subtalker_temperature", 0.9),
    )


def _table() -> dict[str, Entry]:
    """The talker's parameters, and those of what it has inside."""
    predictor = {f"predictor.{ours}": entry for ours, entry in renamed(TABLE, "", f"{_PREDICTOR}.").items()}
    return {
        **renamed(TABLE, "model.", "talker.model."),
        "embed": "talker.model.codec_embedding",
        "head": "talker.codec_head",
        **predictor,
        "predictor.project": f"{_PREDICTOR}.small_to_mtp_projection",
        "predictor.heads.{}.linear": f"{_PREDICTOR}.lm_head.{{}}",
        "predictor.tables.{}.rows": f"{_PREDICTOR}.model.codec_embedding.{{}}",
    }


def build(checkpoint: Checkpoint, options: BuildOptions) -> Decoder:
    """The model with its weights."""
    file = checkpoint.path / "generation_config.json"
    generation = read_json(file) if file.exists() else {}

    def kind(config: DecoderConfig, device: torch.device, context: int | None) -> Talker:
        return Talker(config, device, context, checkpoint.config, generation)

    return decoder.build(checkpoint, options, talker_config(checkpoint.config), _table(), OTHERS, kind=kind)
