"""How models write reasoning and tool calls: one small file per syntax, chosen in `choose`. No torch here."""

from tutti.models.parsers.base import ContentDelta, Delta, OutputParser, ReasoningDelta, ToolCallDelta
from tutti.models.parsers.choose import ParserChoice, choose_parsers

__all__ = [
    "ContentDelta",
    "Delta",
    "OutputParser",
    "ParserChoice",
    "ReasoningDelta",
    "ToolCallDelta",
    "choose_parsers",
]
