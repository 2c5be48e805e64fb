"""From keyword arguments, as the Python doors take them, to `EngineOptions`."""

from __future__ import annotations

from typing import Any

from tutti.errors import InvalidRequest
from tutti.gateway.opening import stored_options
from tutti.hub.composition import is_composition, read_composition
from tutti.hub.resolve import resolve_model
from tutti.settings import EngineOptions, parse_size


def engine_options(model: str, options: dict[str, Any]) -> EngineOptions:
    """The options of a model by name, or of a graph by its file (then those of its parts that do not say otherwise).

    Raises ModelNotFound, ConfigError; InvalidRequest on an option that does not exist.
    """
    unknown = set(options) - set(EngineOptions.__struct_fields__)
    if unknown:
        raise InvalidRequest(
            f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(EngineOptions.__struct_fields__)}"
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
    path = str(resolve_model(model))
    return EngineOptions(model=path, served_model_name=names or (model,), **(stored_options(model) | options))
