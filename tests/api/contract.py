"""The description of Ollama's API in `docs/`, and what of it follows from the code: the shapes of bodies.

`python -m tests.api.contract` writes those anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from tutti.api.ollama.answers import ChatResponse, GenerateResponse, ListedModel, RunningModel, ShownModel
from tutti.api.ollama.creating import CreateFields
from tutti.api.ollama.embed import EmbeddingsFields, EmbedFields
from tutti.api.ollama.fields import ChatFields, GenerateFields
from tutti.api.ollama.models import ShowFields
from tutti.api.ollama.stored import CopyFields, NameFields, TransferFields

FILE = Path(__file__).parents[2] / "docs" / "ollama-openapi.yaml"
_READ = (
    ChatFields, GenerateFields, EmbedFields, EmbeddingsFields, ShowFields, TransferFields, CreateFields, CopyFields,
    NameFields,
)  # fmt: skip
_SENT = (ChatResponse, GenerateResponse, ListedModel, RunningModel, ShownModel)


def description() -> dict[str, Any]:
    """What the file says."""
    return yaml.safe_load(FILE.read_text())


def shapes() -> dict[str, Any]:
    """The shapes of the bodies that the code reads and sends, by the names of their types."""
    _, found = msgspec.json.schema_components([*_READ, *_SENT], ref_template="#/components/schemas/{name}")
    return {name: found[name] for name in sorted(found)}


def main() -> None:
    """Write the shapes into the file."""
    described = description()
    ours = {name: shape for name, shape in described["components"]["schemas"].items() if "title" not in shape}
    described["components"]["schemas"] = ours | shapes()
    FILE.write_text(yaml.safe_dump(described, sort_keys=False, width=110, allow_unicode=True))


if __name__ == "__main__":
    main()
