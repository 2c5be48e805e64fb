"""Requests to token prompts, tokens to text: tokenizer, chat template, incremental detokenization. No torch here."""

from tutti.models.processor.processor import Processor, load_processor
from tutti.models.processor.stream import TextPiece, TextStream
from tutti.models.processor.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Processor", "TextPiece", "TextStream", "Tokenizer", "load_processor", "load_tokenizer"]
