"""What a caller asks: parts, sampling parameters, the request.

Values only: frozen msgspec structs that cross rooms and processes as they are. Nothing here does work beyond
refusing values that make no sense.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tutti.errors import InvalidRequest


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The form the output must take; exactly one field is set. Field names are vLLM's."""

    json: str | dict[str, Any] | None = None  # a JSON schema, as text or as an object
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None  # EBNF
    json_object: bool | None = None  # any JSON object
    structural_tag: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise InvalidRequest(
                "structured_outputs takes exactly one of json, regex, choice, grammar, json_object, "
                f"structural_tag; got {', '.join(given) or 'none'}",
                param="structured_outputs",
            )


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are chosen and when to stop. Names and meanings are vLLM's.

    `max_tokens` None means: until the context is full. `top_k` 0 or -1 and `top_p` 1.0 are off. `logprobs` n gives
    the chosen token's log-probability and the n most likely ones; -1 gives the whole vocabulary. `penalty_window` n
    (ours) has all penalties look at the last n tokens of prompt and output; None is vLLM's way: the repetition penalty
    looks at both, the others at the output.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    structured_outputs: StructuredOutputs | None = None

    def __post_init__(self) -> None:
        for name in ("stop", "stop_token_ids", "allowed_token_ids", "bad_words"):
            value = getattr(self, name)
            if isinstance(value, str):
                msgspec.structs.force_setattr(self, name, (value,))
            elif value is not None and not isinstance(value, tuple):
                msgspec.structs.force_setattr(self, name, tuple(value))
        for name, valid, rule in (
            ("n", self.n >= 1, "at least 1"),
            ("temperature", 0.0 <= self.temperature < math.inf, "a finite number, 0 or more"),
            ("top_p", 0.0 < self.top_p <= 1.0, "in (0, 1]"),
            ("top_k", self.top_k >= -1, "-1, 0 (both: off) or a positive integer"),
            ("min_p", 0.0 <= self.min_p <= 1.0, "in [0, 1]"),
            ("presence_penalty", -2.0 <= self.presence_penalty <= 2.0, "in [-2, 2]"),
            ("frequency_penalty", -2.0 <= self.frequency_penalty <= 2.0, "in [-2, 2]"),
            ("repetition_penalty", 0.0 < self.repetition_penalty < math.inf, "a finite number above 0"),
            ("penalty_window", self.penalty_window is None or self.penalty_window >= 1, "at least 1"),
            ("seed", self.seed is None or -(2**63) <= self.seed < 2**63, "a 64-bit integer"),
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "at least 1"),
            ("min_tokens", self.min_tokens >= 0, "0 or more"),
            ("logprobs", self.logprobs is None or self.logprobs >= -1, "-1 (all), 0 or more"),
            (
                "prompt_logprobs",
                self.prompt_logprobs is None or self.prompt_logprobs >= -1,
                "-1 (all), 0 or more",
            ),
            ("stop", all(self.stop), "free of empty strings"),
            ("bad_words", all(self.bad_words), "free of empty strings"),
            (
                "allowed_token_ids",
                self.allowed_token_ids is None or len(self.allowed_token_ids) > 0,
                "not empty",
            ),
        ):
            if not valid:
                raise InvalidRequest(f"{name} must be {rule}, got {getattr(self, name)!r}", param=name)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens ({self.min_tokens}) must not exceed max_tokens ({self.max_tokens})",
                param="min_tokens",
            )


class BeamSearchParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of `LLM.beam_search`; names are vLLM's."""

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0


class PoolingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a text becomes a vector or a score. None means: as the model has it.

    `dimensions` keeps the first so many numbers of a vector; `normalize` brings it to the length 1. `use_activation`
    turns a score from a logit into a probability. `truncate_prompt_tokens` cuts what is longer, marks included, to so
    many tokens (-1: as many as the model takes); without it, what is too long is refused. `prompt` is the name of one
    of the model's prompts, which goes before the text.
    """

    dimensions: int | None = None
    normalize: bool | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 1:
            raise InvalidRequest(f"dimensions must be at least 1, got {self.dimensions}", param="dimensions")
        if self.truncate_prompt_tokens is not None and self.truncate_prompt_tokens < -1:
            raise InvalidRequest(
                f"truncate_prompt_tokens must be -1 or more, got {self.truncate_prompt_tokens}",
                param="truncate_prompt_tokens",
            )


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A raw prompt, tokenized as it stands. `pictures` are read with it, by a model that draws of both."""

    text: str
    add_special_tokens: bool = True
    pictures: tuple[MediaInput, ...] = ()


class Pair(msgspec.Struct, frozen=True, tag="pair"):
    """Two texts that a model reads together, to say how well the second answers the first."""

    first: str
    second: str


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """A prompt that is tokenized already. `second` is where the second text of a pair begins; 0: it is no pair."""

    ids: tuple[int, ...]
    second: int = 0


class Media(msgspec.Struct, frozen=True, tag="media"):
    """An image, a recording or a video as the caller gave it: the bytes of a file.

    In a request they follow the `Chat` or `Text` that mentions them, in the order in which it does. `sound`: a video's
    sound track is heard with it.
    """

    modality: str  # "image" | "audio" | "video", or "mask": which parts of the image before it are meant
    data: bytes
    sound: bool = False


class Array(msgspec.Struct, frozen=True):
    """A dense array on its way to a stage: row-major bytes of `shape`; `dtype` by NumPy's name."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class MediaInput(msgspec.Struct, frozen=True, tag="media_input"):
    """A medium as its encoder takes it, and where it stands in the prompt.

    `digest` names everything that decides what the encoder makes of it, and so keys every cache of that. `spans` are
    (start, length) in tokens of the prompt, filled in order by the rows that the encoder gives. `grid` and
    `attributes` are what the model's own arithmetic of positions needs. `mutual`: the tokens of a span look at each
    other both ways, so they are computed in one step.
    """

    modality: str
    digest: str
    arrays: dict[str, Array]
    spans: tuple[tuple[int, int], ...]
    grid: tuple[int, ...] = ()
    attributes: dict[str, float] = msgspec.field(default_factory=dict)
    mutual: bool = False

    @property
    def rows(self) -> int:
        """How many tokens of the prompt it fills."""
        return sum(length for _, length in self.spans)


class Chat(msgspec.Struct, frozen=True, tag="chat"):
    """A conversation, rendered by the model's chat template.

    `messages` are OpenAI's message objects, `tools` OpenAI's tool definitions; `template` (Jinja) or `go_template`
    (Ollama's) overrides the model's own. `begins`: what the model was made with (`Preset`) is said before it.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] | None = None
    template: str | None = None
    go_template: str | None = None
    template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    begins: bool = True


class Insertion(msgspec.Struct, frozen=True, tag="insertion"):
    """A text to be written between two others; `go_template` (Ollama's) overrides the model's own."""

    prefix: str
    suffix: str
    go_template: str | None = None


class Script(msgspec.Struct, frozen=True, tag="script"):
    """A text to be spoken as it stands, by a model that speaks; `instructions` say how ("whisper")."""

    text: str
    instructions: str = ""


class Drawing(msgspec.Struct, frozen=True, tag="drawing", kw_only=True):
    """How a picture is drawn of the request's `Text`, and away from its second one, if it has two.

    With a picture in the request (`Media`), that is begun from: `strength` 1 leaves nothing of it, 0 nearly all. A
    medium "mask" beside it says what is drawn anew, and becomes `mask`, uint8 [height, width], 1 there and 0 elsewhere.
    Sizes are in pixels; None means the model's own habit. `guidance` is the scale of classifier-free guidance, or the
    number that a distilled model is told instead; such a model is guided away from the second text by
    `true_guidance`. So many `previews` are shown on the way: small sketches, or pictures that were `decoded` as the
    finished one is. A film has `frames`, `fps` of them a second; `guidance_2`
    is the scale once little noise is left, of a model with a network of its own for that. It begins with the request's
    picture, if there is one, and ends with the second. A sound has `seconds`, from `seconds_start` of what it is a
    part of. `cache` ("none",
    "first_block", "teacache") spares steps most of the network while less than `cache_threshold` has changed. `lora`
    names an adapter of the server's. The seed is the sampling's. `prompt` is what the picture is of, as its file says,
    where no `Text` of the request does.
    """

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    true_guidance: float | None = None
    previews: int = 0
    decoded: bool = False
    strength: float | None = None
    mask: Array | None = None
    frames: int | None = None
    fps: float | None = None
    guidance_2: float | None = None
    seconds: float | None = None
    seconds_start: float | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: str | None = None
    lora_scale: float = 1.0
    prompt: str | None = None


Part = Text | Pair | Tokens | Media | MediaInput | Chat | Insertion | Script | Drawing


# Modalities that are made of a whole prompt at once, with nothing written after it.
POOLED = ("embedding", "score")


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of work for one model.

    A door makes it with a `Text`, `Chat` or `Insertion` part and its `Media`, or with a `Script` or a `Pair`; the
    processor turns those into `Tokens` and `MediaInput`s before the engine sees them. A picture is asked for with a
    `Drawing` and its texts. `modalities` are what is wanted of the model: "text", "audio" (speech), "image", "video",
    "sound", an "embedding", or a "score"; `pooling` is how the last two are made. `reply`, when given, is the answer:
    its tokens are computed (other stages follow them), but not chosen. `sampling` is the parameters of the
    stage that answers; `stage_sampling` overrides them for a stage by its name. `priority`: lower is served first.
    `deadline` is in seconds since the epoch. `context`, in tokens, bounds prompt and answer together: the answer is cut
    short there; without it, a request whose `max_tokens` do not fit in the model's context is refused. `shift`, when
    given, has an answer go on where the context is full: all tokens but the first `shift` lose their older half.
    """

    id: str
    parts: tuple[Part, ...]
    reply: tuple[int, ...] = ()
    sampling: SamplingParams = SamplingParams()
    stage_sampling: dict[str, SamplingParams] = msgspec.field(default_factory=dict)
    pooling: PoolingParams = PoolingParams()
    modalities: tuple[str, ...] = ("text",)
    live: bool = False  # whether somebody listens to its sound while it comes
    voice: str | None = None  # that speaks, where modalities ask for audio; None: the model's first
    language: str | None = (
        None  # that a script is spoken in, a code or a name ("en", "English"); None: found out
    )
    model: str = ""
    adapter: str | None = None
    cache_salt: str | None = None
    priority: int = 0
    deadline: float | None = None
    context: int | None = None
    shift: int | None = None
    arrival: float = 0.0  # seconds since the epoch, set where the request enters
    call: str = ""  # the id of the HTTP call it came by
    traceparent: str | None = None  # of that call's caller (W3C): whose trace this is a part of

    @property
    def drawing(self) -> Drawing | None:
        """What is to be drawn; None: nothing is."""
        return next((part for part in self.parts if isinstance(part, Drawing)), None)

    @property
    def pooled(self) -> bool:
        """Whether a vector or a score is wanted of the prompt, and no answer to it."""
        return any(modality in POOLED for modality in self.modalities)
