"""From keyword arguments, as the Python doors take them, to `EngineOptions`."""

from __future__ import annotations

from typing import Any

from tutti.errors import InvalidRequest
from tutti.hub.resolve import resolve_model
from tutti.settings import EngineOptions, parse_size


def engine_options(model: str, options: dict[str, Any]) -> EngineOptions:
    """The options of a model by name. Raises ModelNotFound; InvalidRequest on an option that does not exist."""
    unknown = set(options) - set(EngineOptions.__struct_fields__)
    if unknown:
        raise InvalidRequest(
            f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(EngineOptions.__struct_fields__)}"
        )
    for size in ("memory", "kv_cache_memory_bytes", "encoder_cache_memory_bytes"):
        if options.get(size) is not None:
            options[size] = parse_size(options[size], size)
    names = options.pop("served_model_name", ()) or (model,)
    names = (names,) if isinstance(names, str) else tuple(names)
    return EngineOptions(model=str(resolve_model(model)), served_model_name=names, **options)
