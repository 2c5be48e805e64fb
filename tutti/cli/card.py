"""What a model is, as `/show` tells it: the same whether a server said it or the engine in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutti.cli.wording import section

Row = tuple[str, ...]
Section = tuple[str, Sequence[Row]]

_LINES = 2  # of a system prompt or a license, in the overview


@dataclass(frozen=True, slots=True)
class Card:
    """One model. `parameters` is a text, a line for each; `messages` are those that conversations begin with.

    `capabilities` are Ollama's words; `parent` is the model that this one was made of, if that is known.
    """

    sections: tuple[Section, ...]
    capabilities: tuple[str, ...] = ()
    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    system: str = ""
    template: str = ""
    messages: tuple[dict[str, Any], ...] = ()
    parent: str = ""

    def info(self) -> str:
        """The overview, in Ollama's order of sections."""
        sections = [*self.sections]
        if self.capabilities:
            sections.insert(1, ("Capabilities", [(word,) for word in self.capabilities]))
        if self.parameters:
            sections.append(
                ("Parameters", [tuple(line.split(None, 1)) for line in self.parameters.splitlines() if line])
            )
        sections += [
            (title, beginning(text))
            for title, text in (("System", self.system), ("License", self.license))
            if text
        ]
        return "\n\n".join(section(title, rows) for title, rows in sections) + "\n"


def card_of(shown: Mapping[str, Any]) -> Card:
    """The card of a model that `/api/show` describes."""
    facts, details = shown.get("model_info") or {}, shown.get("details") or {}
    sections: list[Section] = [("Model", _model_rows(facts, details, shown.get("requires", "")))]
    if shown.get("projector_info"):
        sections.append(("Projector", _projector_rows(shown["projector_info"])))
    return Card(
        sections=tuple(sections),
        capabilities=tuple(shown.get("capabilities") or ()),
        license=_text(shown, "license"),
        modelfile=_text(shown, "modelfile"),
        parameters=_text(shown, "parameters"),
        system=_text(shown, "system"),
        template=_text(shown, "template"),
        messages=tuple(shown.get("messages") or ()),
        parent=str(details.get("parent_model") or ""),
    )


def beginning(text: str) -> list[Row]:
    """The first lines of a text, as rows of an overview."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = [*lines[:_LINES], "..."] if len(lines) > _LINES else lines
    return [(line,) for line in shown]


def _text(shown: Mapping[str, Any], name: str) -> str:
    """A field that is a text, or several."""
    value = shown.get(name) or ""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _model_rows(facts: Mapping[str, Any], details: Mapping[str, Any], requires: str) -> list[Row]:
    family = facts.get("general.architecture") or details.get("family") or ""
    parameters = details.get("parameter_size") or _count(facts.get("general.parameter_count"))
    rows = [
        ("architecture", family),
        ("parameters", parameters),
        ("context length", facts.get(f"{family}.context_length")),
        ("embedding length", facts.get(f"{family}.embedding_length")),
        ("quantization", details.get("quantization_level")),
        ("requires", requires),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _projector_rows(facts: Mapping[str, Any]) -> list[Row]:
    family = facts.get("general.architecture", "")

    def of_tower(name: str) -> Any:
        return facts.get(f"{family}.vision.{name}") or facts.get(f"{family}.audio.{name}")

    rows = [
        ("architecture", family),
        ("parameters", _count(facts.get("general.parameter_count"))),
        ("embedding length", of_tower("embedding_length")),
        ("dimensions", of_tower("projection_dim")),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _count(number: Any) -> str:
    from tutti.hub.create import format_count

    return format_count(int(number)) if isinstance(number, int | float) and number else ""
