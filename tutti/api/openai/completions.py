"""`POST /v1/completions`: text continued, one prompt or many."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp

from tutti.api.defaults import answer_length
from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.fields import MAX_PROMPTS, CompletionFields
from tutti.api.openai.job import Job, Tally, json_response
from tutti.api.openai.logprobs import LogprobEncoder
from tutti.api.openai.parse import parse
from tutti.api.openai.sampling import sampling_params, structured_outputs
from tutti.api.stream import DONE, EventStream, sse
from tutti.errors import InvalidRequest
from tutti.events import Done, Event, Failed, PromptLogprobs, TextDelta, TokenLogprob, Usage
from tutti.request import Insertion, Request, SamplingParams, Text, Tokens

DEFAULT_MAX_TOKENS = 16  # OpenAI's


async def completions(call: Call) -> ASGIApp:
    """Answer one call, streaming or not."""
    fields = parse(call.body, CompletionFields)
    job = await CompletionJob.of(call, fields)
    if fields.stream:
        return await EventStream.open(job.stream())
    return json_response(await job.answer())


@dataclass(slots=True)
class Output:
    """What is known of one output."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: str = "stop"
    stop: int | str | None = None

    @property
    def mean_logprob(self) -> float:
        """What `best_of` ranks by."""
        return sum(entry.logprob for entry in self.logprobs) / max(len(self.logprobs), 1)


@dataclass(slots=True)
class Prompt:
    """One prompt; `ids` and `text` are known where they are to be shown."""

    request: Request
    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprob] | None = None


@dataclass(slots=True)
class CompletionJob:
    """One completion under way. Choice i of prompt p is number p * n + i."""

    job: Job
    fields: CompletionFields
    prompts: list[Prompt]
    n: int
    silent: bool  # echo alone: the prompt is scored, and what follows is left out
    encoder: LogprobEncoder
    tally: Tally = field(default_factory=Tally)

    @classmethod
    async def of(cls, call: Call, fields: CompletionFields) -> CompletionJob:
        """The job of `fields`. Raises InvalidRequest, ModelNotFound."""
        job = await Job.of(call, fields, "cmpl")
        silent = bool(fields.echo) and fields.max_tokens == 0
        n = 1 if fields.n is None else fields.n
        arrival = time.time()
        max_tokens, context = answer_length(job.model, fields.max_tokens)
        sampling = _sampling(job, fields, DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens, silent)
        requests = [
            Request(
                id=job.request_id(),
                parts=(part,),
                sampling=sampling,
                model=job.model.name,
                cache_salt=fields.cache_salt,
                priority=fields.priority or 0,
                context=context,
                arrival=arrival,
            )
            for part in _insertions(_parts(fields), fields.suffix)
        ]
        encoder = LogprobEncoder(
            job.processor.tokenizer, fields.logprobs or 0, bool(fields.return_tokens_as_token_ids)
        )
        made = cls(job, fields, [Prompt(request) for request in requests], n, silent, encoder)
        if fields.echo or fields.continuous_usage or fields.return_token_ids:
            for index in range(len(made.prompts)):
                await made._tokenize(index)
        return made

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer. Raises what ends it early."""
        offsets = [0] * (len(self.prompts) * self.n)
        echoed = [not self.fields.echo] * len(offsets)
        async with aclosing(self._events()) as events:
            async for index, event in events:
                prompt, choice = self.prompts[index], index * self.n + event.index
                if isinstance(event, PromptLogprobs):
                    prompt.logprobs = list(event.logprobs)
                elif isinstance(event, Usage):
                    self._count(index, choice, event)
                elif isinstance(event, TextDelta):
                    piece = Output(event.text, list(event.tokens), list(event.logprobs or ()))
                    if self.silent:
                        piece = Output()
                    self.tally.outputs[choice] += len(piece.tokens)
                    shown = self._shown(prompt, piece, not echoed[choice], offsets[choice])
                    if shown.text or shown.logprobs or piece.tokens:
                        echoed[choice] = True
                        if shown.logprobs is not None:
                            offsets[choice] += sum(map(len, shown.logprobs.tokens))
                        shown.index = choice
                        yield self._chunk(index, shown)
                elif isinstance(event, Done):
                    reason = "length" if self.silent else event.reason
                    end = answers.TextChoice(choice, "", None, reason, None if self.silent else event.stop)
                    yield self._chunk(index, end)
        if self.fields.include_usage:
            job = self.job
            yield sse(answers.Completion(job.id, job.created, job.model.name, [], self.tally.usage()))
        yield DONE

    async def answer(self) -> answers.Completion:
        """The whole answer. Raises what ended it early."""
        outputs: dict[int, list[Output]] = {
            index: [Output() for _ in range(prompt.request.sampling.n)]
            for index, prompt in enumerate(self.prompts)
        }
        async with aclosing(self._events()) as events:
            async for index, event in events:
                output = outputs[index][event.index]
                if isinstance(event, TextDelta):
                    output.text += event.text
                    output.tokens += event.tokens
                    output.logprobs += event.logprobs or ()
                elif isinstance(event, PromptLogprobs):
                    self.prompts[index].logprobs = list(event.logprobs)
                elif isinstance(event, Usage):
                    self._count(index, index * len(outputs[index]) + event.index, event)
                elif isinstance(event, Done):
                    output.reason, output.stop = event.reason, event.stop
        choices = [
            self._choice(self.prompts[index], output)
            for index, found in outputs.items()
            for output in _best(found, self.n)
        ]
        for index, choice in enumerate(choices):
            choice.index = index
        job = self.job
        return answers.Completion(job.id, job.created, job.model.name, choices, self.tally.usage())

    async def _events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """(which prompt, event). Raises the error of one that failed."""
        requests = [prompt.request for prompt in self.prompts]
        async with aclosing(self.job.lease.generate_all(requests, self.job.call.caller)) as events:
            async for index, event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                yield index, event

    async def _tokenize(self, index: int) -> None:
        """Tokenize a prompt now: its tokens or its text are to be shown."""
        prompt = self.prompts[index]
        (part,) = prompt.request.parts
        prompt.request = await self.job.lease.prepare(prompt.request)
        prompt.ids = [
            token for part in prompt.request.parts if isinstance(part, Tokens) for token in part.ids
        ]
        self.tally.prompts[index] = len(prompt.ids)
        if self.fields.echo:
            prompt.text = (
                _text(part)
                if isinstance(part, Text | Insertion)
                else self.job.processor.tokenizer.decode(prompt.ids)
            )

    def _count(self, prompt: int, choice: int, usage: Usage) -> None:
        if self.silent:
            usage = msgspec.structs.replace(usage, completion_tokens=0)
        self.tally.add(prompt, choice, usage)

    def _shown(self, prompt: Prompt, output: Output, echo: bool, offset: int = 0) -> answers.TextChoice:
        """A choice of `output`, after the prompt where that is echoed."""
        tokens: Sequence[int] = output.tokens
        logprobs: Sequence[TokenLogprob | None] = output.logprobs
        if echo:
            tokens = [*prompt.ids, *tokens]
            logprobs = [None, *(prompt.logprobs or ()), *logprobs]
        shown = answers.TextChoice(0, (prompt.text if echo else "") + output.text)
        if self.fields.logprobs is not None and tokens:
            shown.logprobs = self.encoder.completion(tokens, logprobs, offset)
        if self.fields.return_token_ids:
            shown.token_ids = list(output.tokens)
        return shown

    def _choice(self, prompt: Prompt, output: Output) -> answers.TextChoice:
        if self.silent:
            output = Output(reason="length")
        choice = self._shown(prompt, output, bool(self.fields.echo))
        choice.finish_reason = output.reason
        choice.stop_reason = output.stop
        if self.fields.prompt_logprobs is not None:
            choice.prompt_logprobs = self.encoder.prompt(prompt.logprobs or ())
        if self.fields.return_token_ids:
            choice.prompt_token_ids = prompt.ids
        return choice

    def _chunk(self, prompt: int, choice: answers.TextChoice) -> bytes:
        job = self.job
        usage = self.tally.so_far(prompt, choice.index) if self.fields.continuous_usage else UNSET
        return sse(answers.Completion(job.id, job.created, job.model.name, [choice], usage))


def _best(outputs: list[Output], n: int) -> list[Output]:
    """The `n` likeliest per token, in the order of likelihood; all of them as they are, where there are no more."""
    if len(outputs) <= n:
        return outputs
    return sorted(outputs, key=lambda output: output.mean_logprob, reverse=True)[:n]


def _sampling(job: Job, fields: CompletionFields, max_tokens: int, silent: bool) -> SamplingParams:
    changes: dict[str, int] = {}
    logprobs = fields.logprobs
    if fields.best_of is not None and fields.best_of > (fields.n or 1):
        changes["n"] = fields.best_of
        logprobs = logprobs or 0  # the ranking needs those of the chosen tokens
    if fields.echo and fields.logprobs is not None and fields.prompt_logprobs is None:
        changes["prompt_logprobs"] = fields.logprobs
    return sampling_params(
        fields,
        job.defaults,
        max_tokens=1 if silent else max_tokens,
        logprobs=logprobs,
        structured_outputs=structured_outputs(fields),
        **changes,
    )


def _insertions(parts: list[Text | Tokens], suffix: str | None) -> Sequence[Text | Tokens | Insertion]:
    """The prompts before a suffix, where there is one. Raises InvalidRequest."""
    if not suffix:
        return parts
    if any(isinstance(part, Tokens) for part in parts):
        raise InvalidRequest("a suffix goes with prompts of text, not of token ids.", param="suffix")
    return [Insertion(part.text, suffix) for part in parts if isinstance(part, Text)]


def _text(part: Text | Insertion) -> str:
    return part.text if isinstance(part, Text) else part.prefix


def _parts(fields: CompletionFields) -> list[Text | Tokens]:
    """The prompts: text, token ids, or a list of either. Raises InvalidRequest."""
    prompt = fields.prompt
    special = fields.add_special_tokens is not False
    if isinstance(prompt, str):
        return [Text(prompt, special)]
    if not prompt:
        raise InvalidRequest("prompt is missing: give text, token ids, or a list of either.", param="prompt")
    ids = [item for item in prompt if isinstance(item, int)]
    if len(ids) == len(prompt):
        return [Tokens(tuple(ids))]
    if len(prompt) > MAX_PROMPTS:
        raise InvalidRequest(
            f"At most {MAX_PROMPTS} prompts may come in one call, got {len(prompt)}.", param="prompt"
        )
    parts: list[Text | Tokens] = []
    for item in prompt:
        if isinstance(item, str):
            parts.append(Text(item, special))
        elif isinstance(item, list):
            parts.append(Tokens(tuple(item)))
        else:
            raise InvalidRequest(
                "prompt mixes token ids with prompts; give one or the other.", param="prompt"
            )
    return parts
