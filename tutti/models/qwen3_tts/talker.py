"""The talker: a decoder that reads the text and makes frames of speech, several codes each.

It chooses a frame's first code itself; the code predictor makes the others; all of them together are what it embeds for
the next frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tutti.formats.checkpoint import Checkpoint, read_json
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.frames import FrameDecoder
from tutti.models.qwen3_omni.predictor import CodePredictor, Drawing
from tutti.models.qwen3_tts.config import predictor_config, talker_config
from tutti.models.qwen3_tts.prompt import Prompts
from tutti.models.reading import require
from tutti.models.standard import TABLE
from tutti.models.weights import Entry, renamed
from tutti.request import Request, SamplingParams

OTHERS = (r"talker\.model\.text_embedding\..*", r"talker\.text_projection\..*", r"speaker_encoder\..*")
LONGEST = 2048  # frames for one text, unless generation_config.json says otherwise; 12.5 a second
_LEAST = 2  # frames

_PREDICTOR = "talker.code_predictor"


class Talker(FrameDecoder):
    """Implements `models.protocols.FollowsRows` and `CompletesTokens`."""

    def __init__(
        self,
        config: DecoderConfig,
        device: torch.device,
        context: int | None,
        whole: Mapping[str, Any],
        generation: Mapping[str, Any],
    ) -> None:
        """`whole` is all of config.json, `generation` all of generation_config.json."""
        self.prompts = Prompts.of(whole)
        further = int(require(part(whole, "talker_config"), "num_code_groups")) - 1
        predictor = CodePredictor(
            predictor_config(whole), further, device, config.hidden, _drawing(generation)
        )
        end = self.prompts.special["eos_token_id"]
        super().__init__(config, device, context, predictor, blank=self.prompts.blank, end=end)
        self.voices = tuple(self.prompts.voices)
        self.sampling = _sampling(generation)

    def prompt(self, request: Request) -> list[int]:
        """See `FollowsRows.prompt`."""
        return self.prompts.codes(request)


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


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    file = checkpoint.path / "generation_config.json"
    generation = read_json(file) if file.exists() else {}

    def kind(config: DecoderConfig, device: torch.device, context: int | None) -> Talker:
        return Talker(config, device, context, checkpoint.config, generation)

    return decoder.build(checkpoint, options, talker_config(checkpoint.config), _table(), OTHERS, kind=kind)
