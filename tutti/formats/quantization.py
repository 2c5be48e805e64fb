"""How a model that draws is quantized while it is loaded: one form for all, or one for each component. No torch.

int8                          every network's linear layers; the VAE stays as it is
transformer=int8              those of this component
int8,text_encoder=fp8         all, and one of them otherwise (`none`: not)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tutti.errors import ConfigError

FORMS = ("int8", "fp8")
# Bytes that a row of a matrix has besides its codes: int8's have a scale and the sum of their codes.
ROW_BYTES = {"int8": 8, "fp8": 4}

_EVERY = ""
_TABLES = re.compile(
    r"(^|\.)(shared|embed_tokens|token_embedding|position\w*_embedding|relative_attention_bias)\."
)


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the tensor is a linear layer's: neither a convolution's nor a table of which rows are looked up."""
    return len(shape) == 2 and name.endswith("weight") and _TABLES.search(name) is None


def form_of(quantization: str | None, component: str) -> str | None:
    """The form of a component's linear layers; None: as the checkpoint has them. Raises ConfigError."""
    if quantization is None:
        return None
    forms = _read(quantization)
    form = forms.get(component)
    if form is None and _may_be(component):
        form = forms.get(_EVERY)
    return None if form == "none" else form


def check_quantization(quantization: str | None, components: Mapping[str, object]) -> None:
    """Raises ConfigError on a form that is not known, or a component that is not among these."""
    if quantization is None:
        return
    known = [name for name in components if _may_be(name)]
    for name in _read(quantization):
        if name != _EVERY and name not in known:
            raise ConfigError(
                f"--quantization {quantization}: {name!r} is no component that can be quantized; "
                f"there are {', '.join(known)}",
                param="quantization",
            )


def _may_be(component: str) -> bool:
    return "vae" not in component and "vocoder" not in component


def _read(quantization: str) -> dict[str, str]:
    """The forms by component. Raises ConfigError."""
    found: dict[str, str] = {}
    for part in quantization.split(","):
        name, _, form = part.strip().rpartition("=")
        if form not in (*FORMS, "none"):
            raise ConfigError(
                f"--quantization {quantization}: {form!r} is not known; a model that draws takes "
                f"{', '.join(FORMS)}, or COMPONENT=FORM with commas between them",
                param="quantization",
            )
        found[name.strip()] = form
    return found
