"""What programs get: OpenAI's response objects, with vLLM's additions. Values only."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class PromptTokensDetails(Struct):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int


class Usage(Struct):
    """What a request cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class FunctionCall(Struct):
    """A call's name and arguments (JSON text); a stream gives the name once and the arguments in pieces."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCall(Struct):
    """One call; `index` tells calls apart in a stream."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionCall | UnsetType = UNSET


class Audio(Struct):
    """The sound of an answer: base64 of a file, or of a piece of it in a stream."""

    id: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    transcript: str | UnsetType = UNSET


class ImageUrl(Struct):
    """Where a picture is: a data URI."""

    url: str


class Image(Struct):
    """A picture in an answer."""

    image_url: ImageUrl
    type: str = "image_url"


class Delta(Struct):
    """What a chunk adds to a message. Reasoning goes by both of the names that clients read."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    images: list[Image] | UnsetType = UNSET


class Message(Struct):
    """A whole answer."""

    role: str
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    images: list[Image] | UnsetType = UNSET


class TopLogprob(Struct):
    """A token that might have been."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """Log-probabilities in `/v1/chat/completions`."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(Struct):
    """Log-probabilities in `/v1/completions`; the lists have one entry per token."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


PromptLogprobs = list[dict[str, dict[str, Any]] | None]


class ChunkChoice(Struct):
    """One choice of a chunk."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET


class Chunk(Struct):
    """One event of a streamed chat completion."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    object: str = "chat.completion.chunk"


class Choice(Struct):
    """One choice of a chat completion."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: int | str | None = None
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletion(Struct):
    """The answer of `/v1/chat/completions`."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    object: str = "chat.completion"


class TextChoice(Struct):
    """One choice of a completion, whole or (in a stream) what an event adds."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


class Completion(Struct):
    """The answer of `/v1/completions`, or one event of its stream."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    object: str = "text_completion"


class ModelPermission(Struct):
    """Kept for old clients."""

    id: str
    created: int
    object: str = "model_permission"
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: str | None = None
    is_blocking: bool = False


class Model(Struct):
    """One model that can be served; `max_model_len` is None where it is not known yet."""

    id: str
    created: int
    root: str
    max_model_len: int | None
    permission: list[ModelPermission]
    parent: str | None = None
    object: str = "model"
    owned_by: str = "tutti"


class ModelList(Struct):
    """Every served model."""

    data: list[Model]
    object: str = "list"


class Tokenized(Struct):
    """The answer of `/tokenize`."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(Struct):
    """The answer of `/detokenize`."""

    prompt: str


class EmbeddingObject(Struct):
    """One vector of `/v1/embeddings`: numbers, or base64."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class PooledObject(Struct):
    """One vector of `/pooling`."""

    index: int
    data: list[float] | str
    object: str = "pooling"


class VectorList(Struct):
    """The answer of `/v1/embeddings` and `/pooling`."""

    id: str
    created: int
    model: str
    data: list[EmbeddingObject] | list[PooledObject]
    usage: Usage
    object: str = "list"


class ScoreObject(Struct):
    """The score of one pair."""

    index: int
    score: float
    object: str = "score"


class ScoreList(Struct):
    """The answer of `/v1/score`."""

    id: str
    created: int
    model: str
    data: list[ScoreObject]
    usage: Usage
    object: str = "list"


class Document(Struct):
    """A document that was ranked."""

    text: str


class RankedDocument(Struct):
    """A document's place in the request, and its score."""

    index: int
    document: Document | UnsetType
    relevance_score: float


class RankingUsage(Struct):
    """What a ranking cost, in tokens."""

    prompt_tokens: int
    total_tokens: int


class Ranking(Struct):
    """The answer of `/v1/rerank`."""

    id: str
    model: str
    usage: RankingUsage
    results: list[RankedDocument]
