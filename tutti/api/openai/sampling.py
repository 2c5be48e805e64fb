"""From the fields of a request to sampling parameters: the caller's word, else the model's default, else neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tutti.api.openai.fields import ResponseFormat, SamplingFields
from tutti.errors import InvalidRequest
from tutti.request import SamplingParams, StructuredOutputs

MAX_LOGPROBS = 20  # alternatives per token; more would make answers of megabytes

_SAME_NAME = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "prompt_logprobs",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "include_stop_str_in_output",
    "skip_special_tokens",
)


def sampling_params(
    fields: SamplingFields,
    defaults: Mapping[str, Any],
    *,
    max_tokens: int | None,
    logprobs: int | None,
    structured_outputs: StructuredOutputs | None,
    **changes: Any,
) -> SamplingParams:
    """The parameters of `fields`; `defaults` are the model's, `changes` override both. Raises InvalidRequest."""
    for name, count in (("logprobs", logprobs), ("prompt_logprobs", fields.prompt_logprobs)):
        if count is not None and not 0 <= count <= MAX_LOGPROBS:
            raise InvalidRequest(f"{name} must be between 0 and {MAX_LOGPROBS}, got {count}.", param=name)
    values = msgspec.structs.asdict(fields)
    given = {name: values[name] for name in _SAME_NAME if values[name] is not None}
    return SamplingParams(
        **{
            **defaults,
            **given,
            "max_tokens": max_tokens,
            "logprobs": logprobs,
            "structured_outputs": structured_outputs,
            **changes,
        }
    )


def structured_outputs(fields: SamplingFields) -> StructuredOutputs | None:
    """The form the caller asks for, by whichever of the fields for it. Raises InvalidRequest for several."""
    found: dict[str, StructuredOutputs] = {}
    if fields.response_format is not None and fields.response_format.type != "text":
        found["response_format"] = _response_format(fields.response_format)
    if fields.structured_outputs is not None:
        found["structured_outputs"] = fields.structured_outputs
    if fields.guided_json is not None:
        found["guided_json"] = StructuredOutputs(json=fields.guided_json)
    if fields.guided_regex is not None:
        found["guided_regex"] = StructuredOutputs(regex=fields.guided_regex)
    if fields.guided_choice is not None:
        found["guided_choice"] = StructuredOutputs(choice=tuple(fields.guided_choice))
    if fields.guided_grammar is not None:
        found["guided_grammar"] = StructuredOutputs(grammar=fields.guided_grammar)
    if len(found) > 1:
        names = list(found)
        raise InvalidRequest(f"Use only one of {', '.join(names)}.", param=names[1])
    return next(iter(found.values()), None)


def _response_format(format: ResponseFormat) -> StructuredOutputs:
    if format.type == "json_object":
        return StructuredOutputs(json_object=True)
    if format.type == "json_schema":
        if format.json_schema is None or format.json_schema.json_schema is None:
            raise InvalidRequest(
                "response_format of type json_schema needs json_schema.schema.",
                param="response_format.json_schema",
            )
        return StructuredOutputs(json=format.json_schema.json_schema)
    given = {"format": format.format, "structures": format.structures, "triggers": format.triggers}
    tag = {"type": "structural_tag", **{name: value for name, value in given.items() if value is not None}}
    return StructuredOutputs(structural_tag=tag)
