"""The Python door for batches: `LLM`, with vLLM's names and results.

The engine runs in the caller's own thread: no process, no event loop. For streams use `tutti.AsyncLLM`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from tutti.engine.core import Engine
from tutti.errors import InvalidRequest
from tutti.events import Done, Event, Failed, PromptLogprobs, TextDelta, TokenLogprob, Usage
from tutti.gateway.local import OutputDecoder, output_requests
from tutti.gateway.opening import processor_of
from tutti.gateway.scoring import Scoring
from tutti.hub.composition import is_composition
from tutti.llm.beam import BeamSearchOutput, beam_search
from tutti.llm.options import engine_options
from tutti.llm.outputs import (
    CompletionOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    Logprob,
    PoolingOutput,
    PoolingRequestOutput,
    RequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from tutti.llm.pooled import VectorCollector, wishes_of
from tutti.llm.prompts import Parts, Prompt, prompt_parts, prompts_of
from tutti.request import (
    POOLED,
    BeamSearchParams,
    Chat,
    PoolingParams,
    Request,
    SamplingParams,
    Text,
    Tokens,
)


class LLM:
    """A model in this process.

    `model` is a packaged name ("pico"), a directory or a Hugging Face id; further options are the fields of
    `EngineOptions` (vLLM's names). `memory` takes sizes such as "12GB". Raises what loading raises (see `Engine`).
    """

    def __init__(self, model: str, **options: Any) -> None:
        if is_composition(model):
            raise InvalidRequest(
                f"{model}: a graph by file is for tutti.Omni and tutti.AsyncLLM", param="model"
            )
        self.options = engine_options(model, options)
        self.engine = Engine(self.options, self._receive)
        self.processor = processor_of(self.options)
        self._collectors: dict[str, _Collector | VectorCollector] = {}
        self._numbers = itertools.count()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = False,
    ) -> list[RequestOutput]:
        """The outputs for each prompt: text, token ids, {"prompt": ...} or {"prompt_token_ids": ...}.

        The dicts may bring media: {"prompt": ..., "multi_modal_data": {"image": picture}}; see `prompts.media_of`.
        Raises the first request's error, after all others are done.
        """
        parts = [prompt_parts(prompt) for prompt in prompts_of(prompts)]
        return self._run(parts, sampling_params)

    def chat(
        self,
        messages: Sequence[dict[str, Any]] | Sequence[Sequence[dict[str, Any]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = False,
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """The answers to one conversation or several, rendered by the model's chat template."""
        conversations = [messages] if messages and isinstance(messages[0], dict) else messages
        parts: list[Parts] = [
            (
                Chat(
                    messages=tuple(conversation),  # type: ignore[arg-type]
                    tools=tuple(tools or ()),
                    template=chat_template,
                    template_kwargs=chat_template_kwargs or {},
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message,
                ),
            )
            for conversation in conversations
        ]
        return self._run(parts, sampling_params)

    def beam_search(
        self, prompts: Prompt | Sequence[Prompt], params: BeamSearchParams
    ) -> list[BeamSearchOutput]:
        """The `beam_width` likeliest continuations of each prompt."""
        return [
            beam_search(self, self._tokenize(prompt_parts(prompt)), params) for prompt in prompts_of(prompts)
        ]

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        use_tqdm: bool = False,
        *,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
    ) -> list[EmbeddingRequestOutput]:
        """The vector of each prompt, of a model that makes vectors.

        Raises the first request's error, after all others are done; a prompt that is too long is one, unless
        `truncate_prompt_tokens` has it cut.
        """
        return [
            EmbeddingRequestOutput(one.request.id, EmbeddingOutput(list(one.result())), one.prompt)
            for one in self._pool(prompts, pooling_params, "embedding")
        ]

    def encode(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: bool = False,
    ) -> list[PoolingRequestOutput[PoolingOutput]]:
        """The same of any model that pools, scores among them, as tensors float32 on the CPU."""
        import torch

        own = next((output for output in self.engine.info.outputs if output in POOLED), "embedding")
        return [
            PoolingRequestOutput(one.request.id, PoolingOutput(torch.tensor(one.result())), one.prompt)
            for one in self._pool(prompts, pooling_params, own)
        ]

    def score(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str],
        use_tqdm: bool = False,
        *,
        pooling_params: PoolingParams | None = None,
    ) -> list[ScoringRequestOutput]:
        """How well each of `data_2` answers the one of `data_1`, or the one at its place there.

        A cross-encoder reads both; of a model that makes vectors it is the cosine between them. Raises as `embed`.
        """
        first, second = ([one] if isinstance(one, str) else list(one) for one in (data_1, data_2))
        scoring = Scoring.of(first, second, self.engine.info.outputs)
        wishes = scoring.pooling(pooling_params or PoolingParams())
        found = self._vectors(
            [(part,) for part in scoring.parts], [wishes] * len(scoring.parts), scoring.modality
        )
        scores = scoring.scores([one.result() for one in found])
        prompts = (
            [one.prompt for one in found]
            if scoring.together
            else scoring.joined([one.prompt for one in found])
        )
        return [
            ScoringRequestOutput(f"score-{number}", ScoringOutput(value), prompt)
            for number, (value, prompt) in enumerate(zip(scores, prompts, strict=True))
        ]

    def get_tokenizer(self) -> Any:
        """The model's tokenizer: `encode`, `decode`."""
        return self.processor.tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """The checkpoint's own defaults."""
        return SamplingParams(**self.processor.generation_defaults)

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache."""
        self.engine.reset_caches()

    def close(self) -> None:
        """End the processes of the stages that were placed on other devices, if there are any."""
        self.engine.close()

    # --- running ------------------------------------------------------------------------------------------------

    def _pool(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None,
        modality: str,
    ) -> list[VectorCollector]:
        parts = [prompt_parts(prompt) for prompt in prompts_of(prompts)]
        return self._vectors(parts, wishes_of(pooling_params, len(parts)), modality)

    def _vectors(
        self, parts: Sequence[Parts], wishes: Sequence[PoolingParams], modality: str
    ) -> list[VectorCollector]:
        """The vectors of what each of `parts` is, all of them done."""
        context = self.engine.info.context
        requests = [
            Request(
                id=f"llm-{next(self._numbers)}",
                parts=given,
                pooling=wish,
                modalities=(modality,),
                arrival=time.time(),
            )
            for given, wish in zip(parts, wishes, strict=True)
        ]
        collectors = [VectorCollector(self.processor.prepare(one, context=context)) for one in requests]
        for collector in collectors:
            self._collectors[collector.request.id] = collector
            self.engine.loop.submit(collector.request)
        self._finish(collectors)
        return collectors

    def _finish(self, collectors: Sequence[_Collector] | Sequence[VectorCollector]) -> None:
        """Run until all are done; whatever happens, nothing is left of them in the engine."""
        try:
            self.engine.loop.run_until(lambda: all(collector.open == 0 for collector in collectors))
        finally:
            for collector in collectors:
                for request_id in collector.ids:
                    self._collectors.pop(request_id, None)
                    self.engine.loop.cancel(request_id)

    def _run(
        self, parts: Sequence[Parts], sampling: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[RequestOutput]:
        if sampling is None:
            sampling = self.get_default_sampling_params()
        each = [sampling] * len(parts) if isinstance(sampling, SamplingParams) else list(sampling)
        if len(each) != len(parts):
            raise InvalidRequest(
                f"{len(parts)} prompts but {len(each)} sampling_params; give one, or one for each"
            )
        requests = [self._request(given, params) for given, params in zip(parts, each, strict=True)]
        collectors = [
            _Collector(self, request, given) for request, given in zip(requests, parts, strict=True)
        ]
        for collector in collectors:
            for index, one in enumerate(output_requests(collector.request)):
                self._collectors[one.id] = collector
                collector.decoders[one.id] = OutputDecoder(self.processor, one, collector.request.id, index)
                self.engine.loop.submit(one)
        self._finish(collectors)
        return [collector.result() for collector in collectors]

    def _request(self, parts: Parts, sampling: SamplingParams) -> Request:
        request = Request(
            id=f"llm-{next(self._numbers)}", parts=parts, sampling=sampling, arrival=time.time()
        )
        return self.processor.prepare(request)

    def _tokenize(self, parts: Parts) -> list[int]:
        prepared = self.processor.prepare(Request(id="tokenize", parts=parts))
        return [token for tokens in prepared.parts if isinstance(tokens, Tokens) for token in tokens.ids]

    def _receive(self, events: list[Event]) -> None:
        for event in events:
            collector = self._collectors.get(event.request)
            if collector is not None:
                collector.take(event)


class _Collector:
    """Gathers the events of one prompt into a `RequestOutput`."""

    def __init__(self, llm: LLM, request: Request, given: Parts) -> None:
        self.llm = llm
        self.request = request
        self.decoders: dict[str, OutputDecoder] = {}
        self.open = request.sampling.n
        self.error: Failed | None = None
        prompt = [token for tokens in request.parts if isinstance(tokens, Tokens) for token in tokens.ids]
        text = next((part.text for part in given if isinstance(part, Text)), None)
        self.output = RequestOutput(request.id, text, prompt, [CompletionOutput(k) for k in range(self.open)])

    @property
    def ids(self) -> tuple[str, ...]:
        """The engine's requests."""
        return tuple(self.decoders)

    def take(self, event: Event) -> None:
        """One of the engine's events."""
        decoder = self.decoders[event.request]
        for ours in decoder.decode(event):
            self._apply(ours)
        if decoder.stopped and not decoder.ended:
            self.llm.engine.loop.cancel(event.request)

    def result(self) -> RequestOutput:
        """What was gathered. Raises the request's error."""
        if self.error is not None:
            raise self.error.error.error()
        return self.output

    def _apply(self, event: Event) -> None:
        output = self.output.outputs[event.index]
        match event:
            case TextDelta(tokens=tokens, text=text, logprobs=logprobs):
                output.text += text
                output.token_ids += tokens
                if logprobs is not None:
                    output.logprobs = (output.logprobs or []) + [self._logprobs(one) for one in logprobs]
                    output.cumulative_logprob = (output.cumulative_logprob or 0.0) + sum(
                        o.logprob for o in logprobs
                    )
            case PromptLogprobs(logprobs=logprobs):
                self.output.prompt_logprobs = [None, *(self._logprobs(one) for one in logprobs)]
            case Usage(cached_tokens=cached):
                self.output.num_cached_tokens = max(self.output.num_cached_tokens, cached)
            case Done(reason=reason, stop=stop):
                output.finish_reason, output.stop_reason = reason, stop
                self._close()
            case Failed():
                self.error = event
                self._close()

    def _close(self) -> None:
        self.open -= 1
        self.output.finished = self.open == 0

    def _logprobs(self, entry: TokenLogprob) -> dict[int, Logprob]:
        name = self.llm.processor.tokenizer.token_text
        found = {token: Logprob(value, rank, name(token)) for rank, (token, value) in enumerate(entry.top, 1)}
        found[entry.token] = Logprob(entry.logprob, entry.rank, name(entry.token))
        return found
