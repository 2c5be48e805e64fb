"""What programs send: the fields of `/v1/chat/completions` and `/v1/completions`, as OpenAI and vLLM name them.

Typed structs; `None` means that the caller did not say. The fields' meaning is in `sampling`, `chat`, `completions`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tutti.errors import InvalidRequest
from tutti.request import Drawing, SamplingParams, StructuredOutputs

MAX_OUTPUTS = 1024  # of one prompt
MAX_PROMPTS = 16_384  # of one call


class StreamOptions(msgspec.Struct, kw_only=True):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(msgspec.Struct, kw_only=True, rename={"json_schema": "schema"}):
    """The schema of `response_format`."""

    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """OpenAI's `response_format`, and vLLM's structural tags."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None
    format: Any = None
    structures: Any = None
    triggers: Any = None


class SamplingFields(msgspec.Struct, kw_only=True):
    """The fields that both endpoints have."""

    model: str | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    # What changes the answer and is not served here: refused rather than ignored.
    use_beam_search: Any = None
    truncate_prompt_tokens: Any = None
    logprob_token_ids: Any = None
    prompt_embeds: Any = None
    thinking_token_budget: Any = None

    def __post_init__(self) -> None:
        at_most("n", self.n, MAX_OUTPUTS)
        for name in ("use_beam_search", "truncate_prompt_tokens", "logprob_token_ids", "prompt_embeds"):
            self.refuse(name)
        if self.thinking_token_budget not in (None, -1):
            self.refuse("thinking_token_budget")
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is only allowed with stream: true.", param="stream_options")
        if self.prompt_logprobs and self.stream:
            raise InvalidRequest(
                "prompt_logprobs is not available with stream: true.", param="prompt_logprobs"
            )
        if self.cache_salt == "":
            raise InvalidRequest("cache_salt must not be empty.", param="cache_salt")

    def refuse(self, name: str) -> None:
        """Raises InvalidRequest if the field is set: it is known, and not supported."""
        if getattr(self, name):
            raise InvalidRequest(f"{name} is not supported by this server. Leave it out.", param=name)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether every chunk carries the usage so far."""
        return self.include_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


class AudioFields(msgspec.Struct, kw_only=True):
    """How an answer is spoken."""

    voice: str | None = None
    format: Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"] = "wav"

    @property
    def encoding(self) -> str:
        """The format by the name that `media` has for it."""
        return "pcm" if self.format == "pcm16" else self.format


class LoraFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An adapter that the server was started with, and how much of it."""

    name: str
    scale: float = 1.0


class PictureFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How an answer's picture is drawn (ours), as `/v1/images/generations` names it. The seed is the call's."""

    size: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: LoraFields | None = None

    @property
    def drawing(self) -> Drawing:
        """How it is to be drawn. Raises InvalidRequest."""
        from tutti.models.processor.drawer import parse_sides

        width, height = parse_sides(self.size)
        return Drawing(
            width=width,
            height=height,
            steps=self.num_inference_steps,
            guidance=self.guidance_scale,
            cache=self.cache,
            cache_threshold=self.cache_threshold,
            lora=self.lora.name if self.lora else None,
            lora_scale=self.lora.scale if self.lora else 1.0,
        )


class MediaFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How media are taken, vLLM's `mm_processor_kwargs`: `use_audio_in_video` hears a video's sound with it."""

    use_audio_in_video: bool = False


class ChatFields(SamplingFields, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    modalities: list[Literal["text", "audio", "image"]] | None = None
    audio: AudioFields | None = None
    image: PictureFields | None = None
    mm_processor_kwargs: MediaFields | None = None
    stage_sampling: dict[str, SamplingParams] | None = (
        None  # ours: by the name of a stage of the model's graph
    )
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, Any]] | None = None
    functions: Any = None
    function_call: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        if self.functions or self.function_call:
            raise InvalidRequest("functions is not supported: use tools and tool_choice.", param="functions")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs is only allowed with logprobs: true.", param="top_logprobs")
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt exclude each other.",
                param="continue_final_message",
            )

    @property
    def spoken(self) -> AudioFields | None:
        """How the answer is spoken, if it is."""
        return (self.audio or AudioFields()) if "audio" in (self.modalities or ()) else None

    @property
    def hears_videos(self) -> bool:
        """Whether videos' sound is heard with them."""
        return self.mm_processor_kwargs is not None and self.mm_processor_kwargs.use_audio_in_video

    @property
    def opens_answer(self) -> bool:
        """Whether the prompt ends with the opening of a new message (rather than inside the last one)."""
        if self.add_generation_prompt is None:
            return not self.continue_final_message
        return self.add_generation_prompt


class CompletionFields(SamplingFields, kw_only=True):
    """`POST /v1/completions`. A prompt is text or token ids; a list of either is several prompts."""

    prompt: str | list[str | int | list[int]] | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most("best_of", self.best_of, MAX_OUTPUTS)
        n = 1 if self.n is None else self.n
        if self.best_of is not None and self.best_of < n:
            raise InvalidRequest(f"best_of ({self.best_of}) must be at least n ({n}).", param="best_of")
        if self.best_of is not None and self.best_of > n and self.stream:
            raise InvalidRequest(
                "best_of greater than n is not available with stream: true.", param="best_of"
            )


def at_most(name: str, value: int | None, limit: int) -> None:
    """Raises InvalidRequest when the field is greater than what is served at once."""
    if value is not None and value > limit:
        raise InvalidRequest(f"{name} must be at most {limit}, got {value}.", param=name)
