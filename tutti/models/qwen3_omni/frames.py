"""A decoder of frames of speech, several codes each: it chooses the first, its code predictor makes the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutti.layers.parameters import Named, prefixed
from tutti.models.config import DecoderConfig
from tutti.models.decoder import Decoder
from tutti.models.protocols import ForwardInputs
from tutti.models.qwen3_omni.config import SPECIAL_CODES
from tutti.models.qwen3_omni.predictor import CodePredictor


class FrameDecoder(Decoder):
    """Implements `models.protocols.CompletesTokens`.

    A token's input is its row plus the embeddings of its codes; prompt tokens that have no code are `blank`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        device: torch.device,
        context: int | None,
        predictor: CodePredictor,
        *,
        blank: int,
        end: int,
    ) -> None:
        """`end` is the code that ends speech; what else is special is never said."""
        super().__init__(config, device, context)
        self.predictor = predictor
        self.further = predictor.further
        self.blank = blank
        self.eos_ids = frozenset((end,))
        self._unsaid = torch.arange(config.vocab, device=device) >= config.vocab - SPECIAL_CODES
        self._unsaid[end] = False

    def parameters(self) -> Named:
        """The decoder's, and `predictor.*`."""
        yield from super().parameters()
        yield from prefixed("predictor", self.predictor.parameters())

    def fuse(self) -> None:
        """See `Block.fuse`."""
        super().fuse()
        self.predictor.fuse()

    def begin(self, inputs: ForwardInputs) -> Tensor:
        """The first layer's input [tokens, hidden]."""
        assert inputs.embeds is not None and inputs.codes is not None
        embedded = self.embed(inputs.tokens)
        embedded = embedded.masked_fill((inputs.tokens == self.blank)[:, None], 0)
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
