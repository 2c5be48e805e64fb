"""What a pipeline of diffusers can be asked, as the source of the installed version says.

The source is read and not run: importing diffusers takes torch, and the doors have none.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What pipelines are named after that need more than a text, or give something else.
_MORE = (
    "Img2Img",
    "Inpaint",
    "Control",
    "Upscale",
    "SuperResolution",
    "Refiner",
    "Edit",
    "Pix2Pix",
    "Kontext",
    "Fill",
    "Adapter",
    "Layered",
    "Prior",
    "ShapE",
    "Onnx",
    "Video",
)
_NEEDED = {"prompt", "width", "height", "num_inference_steps", "generator", "output_type"}
REQUIRED = object()  # the default of a parameter that has none


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a pipeline's call, with what counts where they are not given (None also where it is no value).

    `draws`: it gives pictures.
    """

    parameters: Mapping[str, Any]
    draws: bool

    def default(self, name: str) -> Any:
        """What counts where the parameter `name` is not given; None where there is no such parameter."""
        return self.parameters.get(name)


def installed() -> bool:
    """Whether diffusers is there."""
    return importlib.util.find_spec("diffusers") is not None


@functools.cache
def signature(pipeline: str) -> Signature | None:
    """That of the class `pipeline`; None where the installed diffusers has none, or one whose call is another's."""
    spec = importlib.util.find_spec("diffusers")
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted((Path(folder) / "pipelines").rglob("pipeline_*.py")):
            source = file.read_text(encoding="utf-8")
            if f"class {pipeline}(" in source:
                return _read(source, pipeline)
    return None


def makes_pictures_of_text(pipeline: str) -> bool:
    """Whether the class `pipeline` of the installed diffusers draws, and needs nothing but a text for it."""
    found = None if any(word in pipeline for word in _MORE) else signature(pipeline)
    if found is None or not found.draws or not set(found.parameters) >= _NEEDED:
        return False
    return all(value is not REQUIRED or name == "prompt" for name, value in found.parameters.items())


def _read(source: str, pipeline: str) -> Signature | None:
    kinds = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    members = next((kind.body for kind in kinds if kind.name == pipeline), [])
    for member in members:
        if isinstance(member, ast.FunctionDef) and member.name == "__call__":
            given = member.args.args[1:]
            values: list[Any] = [REQUIRED] * (len(given) - len(member.args.defaults))
            values += [_value(default) for default in member.args.defaults]
            parameters = {one.arg: value for one, value in zip(given, values, strict=True)}
            parameters |= {
                one.arg: REQUIRED if default is None else _value(default)
                for one, default in zip(member.args.kwonlyargs, member.args.kw_defaults, strict=True)
            }
            text = ast.get_source_segment(source, member) or ""
            return Signature(parameters, "images=" in text)
    return None


def _value(node: ast.expr) -> Any:
    """The value of a default that is a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
