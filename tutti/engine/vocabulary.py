"""What the engine must know of a model's tokenizer: where text ends, forbidden words, grammars.

Tokenizing is done outside the engine; the tokenizer is loaded here only when a request needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tutti.layers.bad_words import bad_word_sequences
from tutti.models.processor.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from tutti.layers.grammar import GrammarCompiler, TokenTable


class Vocabulary:
    """The vocabulary of the checkpoint at `path`, whose logits have `size` rows."""

    def __init__(self, path: Path, size: int, eos_ids: frozenset[int]) -> None:
        self.path = path
        self.size = size
        self.eos_ids = eos_ids
        self._tokenizer: Tokenizer | None = None
        self._compiler: GrammarCompiler | None = None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded at the first call. Raises CheckpointError when there is none."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.path)
        return self._tokenizer

    def bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The token sequences of forbidden words, with and without a leading space, as vLLM reads them."""
        return bad_word_sequences(words, lambda text: self.tokenizer().encode(text, add_special_tokens=False))

    def compiler(self) -> GrammarCompiler:
        """Compiles structured outputs for this vocabulary."""
        if self._compiler is None:
            from tutti.layers.grammar import (
                GrammarCompiler,  # only those who ask for a form pay for its library
            )

            self._compiler = GrammarCompiler(self._tokens, self.size, self.eos_ids)
        return self._compiler

    def _tokens(self) -> TokenTable:
        from tutti.layers.grammar import TokenTable

        tokenizer = self.tokenizer()
        pieces = [tokenizer.token_bytes(token) for token in range(self.size)]
        return TokenTable(pieces, tokenizer.special_ids)
