"""From keyword arguments, as the Python doors take them, to `EngineOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutti.errors import ConfigError, InvalidRequest
from tutti.gateway.opening import stored_options
from tutti.hub.composition import is_composition, read_composition
from tutti.hub.resolve import resolve_model
from tutti.settings import EngineOptions, parse_size


def engine_options(model: str, options: dict[str, Any]) -> EngineOptions:
    """The options of a model by name, or of a graph by its file (then those of its parts that do not say otherwise).

    `pipeline` names the rest of a model that is one file of weights; it is no field of `EngineOptions`.

    Raises ModelNotFound, ConfigError; InvalidRequest on an option that does not exist.
    """
    pipeline = options.pop("pipeline", None)
    unknown = set(options) - set(EngineOptions.__struct_fields__)
    if unknown:
        raise InvalidRequest(
            f"no such option: {', '.join(sorted(unknown))}; there are "
            f"{', '.join((*EngineOptions.__struct_fields__, 'pipeline'))}"
        )
    for size in ("memory", "kv_cache_memory_bytes", "encoder_cache_memory_bytes"):
        if options.get(size) is not None:
            options[size] = parse_size(options[size], size)
    for several in ("adapters", "lora_modules"):
        if several in options:
            given = options[several]
            options[several] = (given,) if isinstance(given, str) else tuple(map(str, given))
    names = options.pop("served_model_name", ()) or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    if is_composition(model):  # what its models are is for those who open it
        return EngineOptions(
            model=model, served_model_name=names or (read_composition(model).name,), **options
        )
    folder, files = single_file(model, pipeline)
    given = options.pop("components", None) or {}
    files |= {name: str(Path(file).expanduser().absolute()) for name, file in given.items()}
    path = str(resolve_model(folder, without=files))
    options = stored_options(folder) | options | {"components": files}
    return EngineOptions(model=path, served_model_name=names or (model,), **options)


def single_file(model: str, pipeline: str | None) -> tuple[str, dict[str, str]]:
    """The pipeline's name, and the components' files, where `model` is a file of weights of one that draws.

    Of another model, its name and nothing. Raises ConfigError where the rest of the model is not said, CheckpointError.
    """
    from tutti.formats.components import components_of, is_network

    path = Path(model).expanduser()
    if not (path.is_file() and is_network(path)):
        if pipeline is not None:
            raise ConfigError(
                f"--pipeline says where the rest of a model is that is one file of weights, and {model} is none",
                param="pipeline",
            )
        return model, {}
    network, components = components_of(path)
    if pipeline is None:
        raise ConfigError(
            f"{model} has the weights of a {network.kind} ({', '.join(components)}), but neither configurations nor "
            "tokenizers: say where these, and all other weights, are: --pipeline FOLDER, or a Hugging Face id "
            f"({network.pipeline} for instance)",
            param="pipeline",
        )
    return pipeline, dict.fromkeys(components, str(path.absolute()))
