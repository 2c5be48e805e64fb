"""The talker: a decoder that turns what the thinker meant into codes of speech, token by token.

It begins when the thinker has read the prompt and written one token; with each code it hears one more of the thinker's
tokens, and when there are no more, that the text has ended, and then silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.layers.embedding import Embedding
from tutti.layers.linear import Linear
from tutti.layers.parameters import Named
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.grids import GridDecoder
from tutti.models.processor.files import read_json
from tutti.models.protocols import ForwardInputs, Rows
from tutti.models.qwen2_5_omni.config import part, talker_config
from tutti.models.qwen2_5_omni.speakers import Speaker, choose, load_speakers
from tutti.models.standard import TABLE
from tutti.models.weights import renamed
from tutti.request import Request, SamplingParams, Tokens

OTHERS = (r"thinker\..*", r"token2wav\..*")
LONGEST_SECONDS = 120  # of speech for one answer
CODES_A_SECOND = 50


class Talker(GridDecoder):
    """Implements `models.protocols.FollowsRows` and `PlacesTokens`.

    A token's input is its row (of the thinker's width) plus the embedding of its code; the tokens of the prompt, which
    have no code, are the mask.
    """

    def __init__(self, config: DecoderConfig, device: torch.device, context: int | None = None) -> None:
        super().__init__(config, device, context)
        self.codes: Mapping[str, Any] = {}
        self.speakers: Mapping[str, Speaker] = {}
        self.voices: tuple[str, ...] = ()
        self.sampling = SamplingParams()
        self.eos_ids: frozenset[int] = frozenset()

    def widen(
        self, section: Mapping[str, Any], speakers: Mapping[str, Speaker], sampling: SamplingParams
    ) -> None:
        """Take the section `talker_config` of config.json in, widths, codes and voices, and how codes are drawn."""
        self.speakers, self.voices = speakers, tuple(speakers)
        width = section["embedding_size"]
        self.embed = Embedding(self.config.vocab, width, None, None)
        self.project = Linear(width, self.config.hidden, bias=True)
        self.codes = section
        self.eos_ids = end_codes(section)
        self.sampling = sampling

    def parameters(self) -> Named:
        """The decoder's, and `project`."""
        yield from super().parameters()
        yield "project", self.project

    def prompt(self, request: Request) -> list[int]:
        """See `FollowsRows.prompt`: the mask for each of the thinker's tokens, then padding and the first code."""
        choose(self.speakers, request.voice)
        length = sum(len(part.ids) for part in request.parts if isinstance(part, Tokens))
        codes = self.codes
        begin = [codes["tts_codec_pad_token_id"], codes["tts_codec_start_token_id"]]
        return [codes["tts_codec_mask_token_id"]] * length + begin

    def positions(self, request: Request) -> np.ndarray:
        """See `PlacesTokens.positions`: the thinker's, and two more."""
        places = super().positions(request)
        return np.concatenate([places, places.max(initial=-1) + np.array([[1, 2]] * 3)], axis=1)

    def begin(self, inputs: ForwardInputs) -> Tensor:
        """The first layer's input [tokens, hidden]."""
        assert inputs.embeds is not None
        silent = (inputs.tokens == self.codes["tts_codec_mask_token_id"])[:, None]
        embedded = self.embed(inputs.tokens).masked_fill(silent, 0)
        return self.project(inputs.embeds.to(embedded.dtype) + embedded)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of all codes but the one that begins speech, which never comes again."""
        logits = super().logits(hidden)
        logits[:, self.codes["tts_codec_start_token_id"]] = -math.inf
        return logits


def default_sampling(checkpoint: Checkpoint) -> SamplingParams:
    """How codes are sampled unless a request says otherwise.

    As transformers' `generate` does it for this family, unless generation_config.json sets its arguments `talker_...`.
    """
    settings = read_json(checkpoint.path / "generation_config.json")
    return SamplingParams(
        temperature=settings.get("talker_temperature", 0.9)
        if settings.get("talker_do_sample", True)
        else 0.0,
        top_k=settings.get("talker_top_k", 40),
        top_p=settings.get("talker_top_p", 0.8),
        repetition_penalty=settings.get("talker_repetition_penalty", 1.05),
        seed=0,  # without a fixed seed some speech derails
        max_tokens=LONGEST_SECONDS * CODES_A_SECOND,
    )


def end_codes(section: Mapping[str, Any]) -> frozenset[int]:
    """The codes that end speech, by the section `talker_config` of config.json."""
    return frozenset((section["tts_codec_pad_token_id"], section["tts_codec_end_token_id"]))


def follow(source: Checkpoint, talker: Talker) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge: the thinker's rows as the talker takes them.

    The prompt's rows, the mark that speech begins, the reply's rows, the mark that the text has ended, and padding.
    """
    table = source.tensor("thinker.model.embed_tokens.weight")
    own = talker.embed.table

    def row(token: int) -> Tensor:
        return table[token : token + 1].to(own)

    end, silence = row(talker.codes["tts_text_end_token_id"]), row(talker.codes["tts_text_pad_token_id"])

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        output = chunk.payload
        pieces = [] if output.rows is None else [output.rows.to(own)]
        replying = state.get("replying", False)
        state["replying"] = replying or bool(
            output.tokens
        )  # a token that is sampled has its row in the next step
        if (chunk.final or (pieces and replying)) and not state.get("begun"):
            state["begun"] = True
            pieces.insert(0, row(choose(talker.speakers, state["request"].voice).bos_token))
        if chunk.final:
            pieces.append(end)
        if not pieces:
            return None
        rows = torch.cat(pieces)
        return Chunk(chunk.request, chunk.stage, Rows(rows, silence if chunk.final else None), chunk.final)

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    section = part(checkpoint.config, "talker_config")
    speakers, sampling = load_speakers(checkpoint.path), default_sampling(checkpoint)

    def kind(config: DecoderConfig, device: torch.device, context: int | None) -> Talker:
        talker = Talker(config, device, context)
        talker.widen(section, speakers, sampling)
        return talker

    table = renamed(TABLE, "model.", "talker.model.") | {
        "head": "talker.codec_head",
        "project": "talker.thinker_to_talker_proj",
    }
    return decoder.build(checkpoint, options, talker_config(checkpoint.config), table, OTHERS, kind=kind)
