"""A pipeline's components: their configurations, and the modules that diffusers and transformers make of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tutti.errors import CheckpointError, ConfigError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.pipeline import PipelineCheckpoint
from tutti.formats.quantization import form_of
from tutti.graph import BuildOptions

NETWORKS = ("transformer.", "transformer_2.", "unet.")
"""How the names of a denoiser's tensors begin."""


def component(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of the component `name` of a pipeline. Raises CheckpointError."""
    found = config.get("components", {}).get(name)
    if found is None:
        raise CheckpointError(f"the checkpoint has no {name!r}, which {config['architectures'][0]} needs")
    return dict(found["config"])


def value(config: Mapping[str, Any], name: str, key: str, default: Any = None) -> Any:
    """The setting `key` of the component `name`. Raises CheckpointError where there is neither it nor a default."""
    found = component(config, name).get(key, default)
    if found is None:
        raise CheckpointError(f"{name}/config.json has no {key!r}")
    return found


def load_module(checkpoint: Checkpoint, name: str, options: BuildOptions) -> Any:
    """The module of the component `name`, with its weights, for inference; quantized where that is asked for.

    Raises CheckpointError, ConfigError.
    """
    import torch

    form = form_of(options.quantization, name)
    kind = class_of(checkpoint, name)
    foreign = isinstance(checkpoint, PipelineCheckpoint) and name in checkpoint.parts
    method = component(checkpoint.config, name).get("quantization_config")
    if method and not foreign:
        raise CheckpointError(
            f"{checkpoint.path / name}: its weights are quantized by {method.get('quant_method', 'another program')}, "
            f"which is not read; take the plain ones and --quantization {name}=int8, or a GGUF file: "
            f"--component {name}=FILE"
        )
    # Inference tensors cannot be changed in place, which loading does.
    with _explained(checkpoint, name), torch.inference_mode(False), torch.no_grad():
        if form is not None or foreign:
            from tutti.models.drawing.filling import fill_module

            module = fill_module(checkpoint, name, kind, options, form)
            _share(name, module, options)
        else:
            module = _plain(checkpoint, name, kind, options)
    return module.eval().requires_grad_(False)


def _plain(checkpoint: Checkpoint, name: str, kind: Any, options: BuildOptions) -> Any:
    """The module as its library loads it."""
    import torch

    dtype = {
        "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype": getattr(torch, options.dtype)
    }
    module = kind.from_pretrained(str(checkpoint.path / name), local_files_only=True, **dtype)
    _share(name, module, options)
    return module.to(options.device)


def _share(name: str, module: Any, options: BuildOptions) -> None:
    """Leave the module what this process is to have of it."""
    if options.share is not None:
        options.share(name, module)


def load_pipeline(checkpoint: Checkpoint, options: BuildOptions) -> Any:
    """The whole pipeline as diffusers makes it, of the libraries' classes. Raises CheckpointError, ConfigError."""
    import torch

    if options.quantization is not None:
        raise ConfigError(
            f"--quantization {options.quantization}: what diffusers' own pipeline runs is served as it is",
            param="quantization",
        )
    if isinstance(checkpoint, PipelineCheckpoint) and checkpoint.parts:
        raise ConfigError(
            "what diffusers' own pipeline runs has its own weights: leave out those of other files for "
            + ", ".join(checkpoint.parts),
            param="model",
        )
    for name in checkpoint.config["components"]:
        class_of(checkpoint, name)
    kind = getattr(importlib.import_module("diffusers"), checkpoint.config["architectures"][0])
    with _explained(checkpoint, "."), torch.inference_mode(False), torch.no_grad():
        pipeline = kind.from_pretrained(
            str(checkpoint.path),
            local_files_only=True,
            use_safetensors=True,
            dtype=getattr(torch, options.dtype),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(options.device)


def load_tokenizer(checkpoint: Checkpoint, name: str) -> Any:
    """The tokenizer of the component `name`, as transformers makes it. Raises CheckpointError."""
    from transformers import AutoTokenizer

    with _explained(checkpoint, name):
        return AutoTokenizer.from_pretrained(str(checkpoint.path / name), local_files_only=True)


Reader = tuple[Any, Any]
"""A text encoder and its tokenizer."""


def load_reader(checkpoint: Checkpoint, ending: str, options: BuildOptions) -> Reader:
    """The components `text_encoder` and `tokenizer` whose names end so. Raises CheckpointError."""
    encoder = load_module(checkpoint, f"text_encoder{ending}", options)
    return encoder, load_tokenizer(checkpoint, f"tokenizer{ending}")


def class_of(checkpoint: Checkpoint, name: str) -> Any:
    """The class that model_index.json names, from the two libraries, diffusers' pipelines and nowhere else."""
    component(checkpoint.config, name)
    found = checkpoint.config["components"][name]
    library = found["library"]
    own = library not in ("diffusers", "transformers")  # a pipeline may have components of its own
    try:
        home = importlib.import_module("diffusers.pipelines" if own else library)
        if own and (library.startswith("_") or not hasattr(home, library)):
            raise CheckpointError(
                f"{checkpoint.path}: the component {name!r} is of {library!r}; code that comes with a model is "
                "never run"
            )
        # The libraries' own bars would run into what our doors print.
        importlib.import_module(f"{'diffusers' if own else library}.utils.logging").disable_progress_bar()
        return getattr(getattr(home, library) if own else home, found["class"])
    except ImportError as error:
        raise ConfigError(
            f"drawing needs diffusers, which is not installed ({error}): pip install 'tutti-engine[draw]'"
        ) from error
    except AttributeError as error:
        raise CheckpointError(
            f"{checkpoint.path}: {found['library']} has no {found['class']} in the version that is installed"
        ) from error


@contextmanager
def _explained(checkpoint: Checkpoint, name: str) -> Iterator[None]:
    """What the libraries raise while they load, as an error that names the component."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path / name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
