"""The autoregressive stage: schedule, forward, sample.

It owns the sequences, the scheduler and the KV cache of one model. What a model is, it does not know.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tutti.engine import vectors
from tutti.engine.batching import forward_inputs
from tutti.engine.kv.cache import KVCache
from tutti.engine.players import FILE, Players
from tutti.engine.rows import MediaRows, StreamedRows, TokenRows
from tutti.engine.scheduler import Scheduled, Scheduler
from tutti.engine.sequence import Sequence, State, Timing
from tutti.engine.stage import Ending, Failure, TokenOutput, nobody
from tutti.engine.vocabulary import Vocabulary
from tutti.errors import ContextOverflow, InvalidRequest, StageFailed, TuttiError
from tutti.graph import Chunk
from tutti.layers.sampling import Sampler, SamplerState, check_token_ids, gather_logprobs
from tutti.models.encoders.pooling import Embedder, Gathered
from tutti.models.protocols import (
    CausalModel,
    CompletesTokens,
    EmitsRows,
    FollowsRows,
    PlacesTokens,
    Remembers,
    Rows,
    ShapesLogits,
)
from tutti.request import MediaInput, Request, SamplingParams, Tokens

if TYPE_CHECKING:
    from tutti.layers.grammar import PendingMasks

_ENOUGH = 2048  # rows of one request that wait to be computed: who makes them rests
_TEXT_DEADLINE = 0.1  # seconds until a reader notices that no new text came


@dataclass(frozen=True, slots=True)
class Computed:
    """What a step computed, before any of it is applied."""

    tokens: list[int]
    logprobs: list[Any]
    errors: list[TuttiError | None]
    prompt_logprobs: dict[str, list[Any]]
    gathered: dict[str, Gathered]
    rows: Tensor | None = None
    codes: list[tuple[int, ...]] | None = None


class Autoregress:
    """Runs one `CausalModel` for many requests. See `stage.Runner`."""

    def __init__(
        self,
        name: str,
        model: CausalModel,
        cache: KVCache,
        scheduler: Scheduler,
        vocabulary: Vocabulary,
        *,
        context: int,
        device: torch.device,
        seed: int = 0,
        feeds: frozenset[str] = frozenset(),
        feeds_prompts: frozenset[str] | None = None,
        players: Players | None = None,
        wake: Callable[[], None] = lambda: None,
        maker: Embedder | None = None,
    ) -> None:
        """`feeds` are the modalities that other stages make of this one's rows; for `feeds_prompts` (None: all of
        them) they need the prompts' rows, too, so that these cannot come from the cache. `maker` makes vectors of
        prompts.
        """
        self.name = name
        self.model = model
        self.cache = cache
        self.scheduler = scheduler
        self.vocabulary = vocabulary
        self.context = context
        self.device = device
        self.seed = seed
        self.feeds = feeds if isinstance(model, EmitsRows) else frozenset()
        self.feeds_prompts = self.feeds if feeds_prompts is None else self.feeds & feeds_prompts
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self._players = players or Players()
        self._wake = wake
        self._maker = maker
        self._sampler = Sampler(model.vocab_size, device)
        self._sequences: dict[str, Sequence] = {}
        self._admitted = 0

    def __contains__(self, request_id: str) -> bool:
        """Whether a request waits or runs here."""
        return request_id in self._sequences

    # --- the protocol -------------------------------------------------------------------------------------------

    def admit(self, request: Request) -> None:
        """Queue `request`. Raises InvalidRequest or ContextOverflow when it can never be served."""
        if request.id in self._sequences:
            raise InvalidRequest(f"a request with id {request.id!r} is being served already", param="id")
        keys = _cache_keys(request)
        sampling = request.stage_sampling.get(self.name, request.sampling)
        inputs = {number: part for number, part in enumerate(request.parts) if isinstance(part, MediaInput)}
        media = MediaRows(inputs)
        keys += media.keys
        rows: TokenRows | None = media if inputs else None
        reply = list(request.reply)
        if isinstance(self.model, FollowsRows):
            prompt, reply, rows = self.model.prompt(request), [], StreamedRows()
            sampling = request.stage_sampling.get(self.name, self.model.sampling)
            keys.append(request.id)  # its tokens say nothing of what was computed
        else:
            prompt = [token for part in request.parts if isinstance(part, Tokens) for token in part.ids]
        gathered = vectors.begin(request, self._maker)
        self._validate([*prompt, *reply], sampling, self.context + (gathered is not None))
        emits = not self.feeds.isdisjoint(request.modalities)
        # A given reply may be in the cache as a prompt is.
        emits_prompt = emits and (bool(reply) or not self.feeds_prompts.isdisjoint(request.modalities))
        sequence = Sequence(
            request=request,
            sampling=sampling,
            tokens=prompt + reply,
            prompt_length=len(prompt),
            given=bool(reply),
            limit=self.context,
            most=sampling.max_tokens or self.context,
            chain=self.cache.chain(keys, media.marks),
            order=self._admitted,
            stop_ids=self._stop_ids(sampling),
            timing=Timing(arrival=time.monotonic()),
            rows=rows,
            gathered=gathered,
            emits=emits,
            emits_prompt=emits_prompt,
            emitted=0 if emits_prompt else len(prompt),
            wholes=self._wholes(media),
            places=self.model.positions(request) if isinstance(self.model, PlacesTokens) else None,
        )
        if request.shift is not None and not isinstance(rows, StreamedRows):
            sequence.limit = min(self.context, request.context or self.context)
            # Only tokens that are computed of themselves alone can be computed again at other places.
            sequence.shifts = rows is None and sequence.places is None and not (reply or sequence.emits)
        sequence.sampler = SamplerState(
            sampling,
            prompt,
            eos_ids=self.vocabulary.eos_ids,
            bad_word_ids=self.vocabulary.bad_words(sampling.bad_words),
            seed=self.seed + self._admitted if sampling.seed is None else sampling.seed,
        )
        if sampling.structured_outputs is not None:
            sequence.compiling = self.vocabulary.compiler().compile(sampling.structured_outputs)
            sequence.compiling.add_done_callback(lambda _: self._wake())
        self._admitted += 1
        self._sequences[request.id] = sequence
        self.prompt_tokens += len(prompt)
        self.scheduler.add(sequence)

    def feed(self, chunk: Chunk) -> None:
        """Take the rows that another stage gives; what comes for a request that is gone is dropped."""
        sequence = self._sequences.get(chunk.request)
        if sequence is None:
            return
        if isinstance(sequence.rows, MediaRows) and chunk.part is not None:
            sequence.rows.put(chunk.part, chunk.payload)
        elif isinstance(sequence.rows, StreamedRows) and isinstance(chunk.payload, Rows):
            sequence.rows.push(chunk.payload)
        else:
            raise StageFailed(
                f"stage {self.name} cannot take a {type(chunk.payload).__name__}", stage=self.name
            )

    def urgency(self) -> float | None:
        """See `stage.Runner`."""
        return min(map(self._due, self.scheduler.running or self._sequences.values()), default=None)

    def _due(self, sequence: Sequence) -> float:
        """When its listener runs dry, or a reader notices a pause, or a newcomer that nothing begins."""
        dry = self._players.deadline(sequence.id)
        if dry is not None and isinstance(sequence.rows, StreamedRows):
            return dry
        patience = FILE if isinstance(sequence.rows, StreamedRows) else _TEXT_DEADLINE
        seen = (sequence.timing.last_token or sequence.timing.arrival) + patience
        return seen if dry is None else min(seen, dry)

    @property
    def waiting(self) -> int:
        """See `stage.Runner`. Who waits for rows of another stage does not wait for this one."""
        return sum(one.ready for one in self._sequences.values() if one.state is State.WAITING)

    def full(self, request_id: str) -> bool:
        """See `stage.Runner`. One that does not run takes what comes: it may be waiting for the memory of others."""
        sequence = self._sequences.get(request_id)
        return (
            sequence is not None
            and isinstance(sequence.rows, StreamedRows)
            and sequence.state is State.RUNNING
            and _ENOUGH <= sequence.rows.available - sequence.computed < math.inf
        )

    def plan(self, rests: Callable[[str], bool] = nobody) -> list[Scheduled]:
        """See `stage.Runner`."""
        if rests is not nobody:
            for sequence in self._sequences.values():
                sequence.rests = rests(sequence.id)
        return self.scheduler.plan()

    def step(self, batch: Items[Scheduled]) -> list[Chunk]:
        """One forward pass over `batch`; every sequence that caught up gets its next token."""
        failed = self._take_grammars(batch)
        if failed:
            return failed  # the others are planned again at once
        now = time.monotonic()
        sampling = [item for item in batch if item.samples]
        computed = self._compute(batch, sampling)
        for item in batch:
            if not item.sequence.timing.first_step:
                item.sequence.timing.first_step = now
            item.sequence.prompt_logprobs += computed.prompt_logprobs.get(item.sequence.id, [])
            item.sequence.gathered = computed.gathered.get(item.sequence.id)
            self.scheduler.advance(item)
        now = time.monotonic()
        chunks = self._rows(batch, computed.rows) + self._vectors(batch)
        for row, item in enumerate(sampling):
            error = computed.errors[row]
            if error is not None:
                chunks.append(self._fail(item.sequence, error))
            else:
                if computed.codes is not None:
                    item.sequence.codes.append(computed.codes[row])
                chunks.append(self._accept(item.sequence, computed.tokens[row], computed.logprobs[row], now))
        return chunks

    def release(self, request_id: str) -> TokenOutput | None:
        """See `stage.Runner`."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return None
        self.scheduler.finish(sequence)
        return TokenOutput((), ending=sequence.account("cancelled", None))

    # --- parts of a step ----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _compute(self, batch: Items[Scheduled], sampling: Items[Scheduled]) -> Computed:
        """Everything that can fail, before anything is changed."""
        self._remember(batch)
        further = self.model.further if isinstance(self.model, CompletesTokens) else 0
        inputs = forward_inputs(batch, self.cache, self.device, further)
        masks = self._begin_masks(sampling)
        rows: Tensor | None = None
        if isinstance(self.model, EmitsRows) and any(item.sequence.emits for item in batch):
            hidden, rows = self.model.forward_emitting(inputs, self.cache.layers)
        else:
            hidden = self.model.forward(inputs, self.cache.layers)
        prompt_logprobs = self._prompt_logprobs(batch, hidden)
        gathered = vectors.gather(batch, hidden)
        if not sampling:
            return Computed([], [], [], prompt_logprobs, gathered, rows)
        ends = inputs.batches[0].query_starts[1:] - 1
        if len(sampling) < len(batch):
            ends = ends[[row for row, item in enumerate(batch) if item.samples]]
        hidden = hidden[ends.long()]
        logits = self.model.logits(hidden)
        if isinstance(self.model, ShapesLogits):
            sequences = [item.sequence for item in sampling]
            logits = self.model.shape_logits(
                logits, [one.tokens for one in sequences], [one.prompt_length for one in sequences]
            )
        bitmask = masks.result() if masks is not None else None
        result = self._sampler.sample(logits, [item.sequence.sampler for item in sampling], bitmask)
        errors = [
            item.sequence.grammar.error
            if item.sequence.grammar is not None and item.sequence.grammar.error
            else error
            for item, error in zip(sampling, result.errors, strict=True)
        ]
        codes = self._complete(sampling, hidden, result.tokens)
        return Computed(result.tokens, result.logprobs, errors, prompt_logprobs, gathered, rows, codes)

    def _complete(
        self, sampling: Items[Scheduled], hidden: Tensor, tokens: list[int]
    ) -> list[tuple[int, ...]] | None:
        """The codes that go with the sampled tokens, if the model completes its tokens."""
        if not isinstance(self.model, CompletesTokens):
            return None
        uniforms = [item.sequence.sampler.further(self.model.further) for item in sampling]
        chosen = torch.tensor(tokens, device=self.device).clamp(min=0)  # -1 where sampling failed
        numbers = torch.tensor(uniforms, dtype=torch.float64, device=self.device)
        return [tuple(row) for row in self.model.complete(hidden, chosen, numbers).tolist()]

    def _remember(self, batch: Items[Scheduled]) -> None:
        """Make the memories of those who begin to run."""
        if not isinstance(self.model, Remembers):
            return
        for sequence in (item.sequence for item in batch):
            if sequence.memory is None:
                media = sequence.rows.unplaced if isinstance(sequence.rows, MediaRows) else []
                sequence.memory = self.model.remember(media)

    def _rows(self, batch: Items[Scheduled], rows: Tensor | None) -> list[Chunk]:
        """The rows of this step that other stages do not have yet; the sequences are advanced already."""
        chunks: list[Chunk] = []
        start = 0
        for item in batch:
            sequence, end = item.sequence, start + item.count
            new = sequence.computed - sequence.emitted  # fewer after a preemption: some are known
            fresh = rows[end - new : end] if rows is not None and sequence.emits and new > 0 else None
            if fresh is not None:
                sequence.emitted = sequence.computed
            if sequence.given:
                chunks += self._recite(sequence, fresh)
            elif fresh is not None:
                chunks.append(Chunk(sequence.id, self.name, TokenOutput((), rows=fresh)))
            start = end
        return chunks

    def _vectors(self, batch: Items[Scheduled]) -> list[Chunk]:
        """The vectors of the prompts that are computed now."""
        chunks: list[Chunk] = []
        for sequence in (item.sequence for item in batch):
            if sequence.gathered is not None and self._maker is not None and not sequence.behind:
                chunks.append(
                    Chunk(sequence.id, self.name, vectors.vector(sequence, self._maker), final=True)
                )
                self.release(sequence.id)
        return chunks

    def _recite(self, sequence: Sequence, rows: Tensor | None) -> list[Chunk]:
        """What a step gives of a sequence whose output was given; `rows` are its last computed tokens'.

        In the order of an output that is found: the prompt's rows, the output (at once), the output's rows, the end.
        """
        outputs: list[TokenOutput] = []
        cut = 0 if rows is None else max(0, len(rows) - sequence.computed + sequence.prompt_length)
        if rows is not None and cut:
            outputs.append(TokenOutput((), rows=rows[:cut]))
        if not sequence.timing.first_token and sequence.computed >= sequence.prompt_length:
            sequence.timing.first_token = sequence.timing.last_token = time.monotonic()
            outputs.append(TokenOutput(tuple(sequence.tokens[sequence.prompt_length :])))
        if rows is not None and cut < len(rows):
            outputs.append(TokenOutput((), rows=rows[cut:]))
        if not sequence.behind:
            outputs.append(TokenOutput((), ending=sequence.account("stop", None)))
            self.release(sequence.id)
        return [Chunk(sequence.id, self.name, one, final=one.ending is not None) for one in outputs]

    def _begin_masks(self, sampling: Items[Scheduled]) -> PendingMasks | None:
        """The grammars' masks, filled by a thread while the forward pass runs."""
        grammars = [item.sequence.grammar for item in sampling]
        if all(grammar is None for grammar in grammars):
            return None
        return self.vocabulary.compiler().masks(grammars)

    def _prompt_logprobs(self, batch: Items[Scheduled], hidden: Tensor) -> dict[str, list[Any]]:
        """Log-probabilities of prompt tokens, for those who asked: token i is predicted by position i - 1."""
        found: dict[str, list[Any]] = {}
        start = 0
        for item in batch:
            sequence, rows = item.sequence, hidden[start : start + item.count]
            start += item.count
            wanted = sequence.sampling.prompt_logprobs
            if wanted is None or len(sequence.prompt_logprobs) >= sequence.prompt_length - 1:
                continue
            first = sequence.computed
            targets = sequence.tokens[first + 1 : min(first + item.count + 1, sequence.prompt_length)]
            new = len(sequence.prompt_logprobs) - first  # positions recomputed after a preemption are known
            if targets[new:]:
                logits = self.model.logits(rows[new : len(targets)])
                found[sequence.id] = gather_logprobs(logits, targets[new:], wanted)
        return found

    def _take_grammars(self, batch: Items[Scheduled]) -> list[Chunk]:
        """Take compiled grammars into use; those that did not compile fail their own request."""
        failed: list[Chunk] = []
        for sequence in (item.sequence for item in batch):
            compiling, sequence.compiling = sequence.compiling, None
            if compiling is None:
                continue
            try:
                sequence.grammar = compiling.result()
            except TuttiError as error:
                failed.append(self._fail(sequence, error))
        return failed

    def _accept(self, sequence: Sequence, token: int, logprob: Any, now: float) -> Chunk:
        """Append a sampled token; the sequence ends when it must."""
        sequence.tokens.append(token)
        sequence.sampler.accept(token)
        self.generation_tokens += 1
        timing = sequence.timing
        timing.first_token = timing.first_token or now
        timing.last_token = now
        output = TokenOutput(
            (token,),
            (logprob,) if logprob is not None else None,
            tuple(sequence.prompt_logprobs)
            if sequence.outputs == 1 and sequence.sampling.prompt_logprobs is not None
            else None,
            self._ending(sequence, token),
            codes=tuple(sequence.codes[-1:]),
        )
        if output.ending is not None:
            self.release(sequence.id)
        return Chunk(sequence.id, self.name, output, final=output.ending is not None)

    def _ending(self, sequence: Sequence, token: int) -> Ending | None:
        if sequence.grammar is not None and not sequence.grammar.finished:
            sequence.grammar.accept(token)
        if token in sequence.stop_ids and sequence.outputs > sequence.sampling.min_tokens:
            reason, stop = "stop", token if token in sequence.sampling.stop_token_ids else None
        elif sequence.grammar is not None and sequence.grammar.finished:
            reason, stop = "stop", None
        elif sequence.outputs >= sequence.most:
            reason, stop = "length", None
        elif len(sequence.tokens) >= sequence.limit:
            if self._shift(sequence):
                return None
            reason, stop = "length", None
        else:
            return None
        return sequence.account(reason, stop)

    def _shift(self, sequence: Sequence) -> bool:
        """Make room in a full context, if the request wants it; what is kept of the beginning may be cached."""
        keep = sequence.request.shift
        if keep is None or not sequence.shifts:
            return False
        chain = self.cache.chain(_cache_keys(sequence.request))
        sequence.shift(min(max(keep, 0), len(sequence.tokens) - 2), chain)
        self.scheduler.restart(sequence)
        return True

    def _fail(self, sequence: Sequence, error: TuttiError) -> Chunk:
        error.stage = error.stage or self.name
        self.release(sequence.id)
        return Chunk(sequence.id, self.name, Failure(error), final=True)

    # --- admission ----------------------------------------------------------------------------------------------

    def _stop_ids(self, sampling: SamplingParams) -> frozenset[int]:
        eos = frozenset() if sampling.ignore_eos else self.vocabulary.eos_ids
        return eos | frozenset(sampling.stop_token_ids)

    def _wholes(self, media: MediaRows) -> tuple[tuple[int, int], ...]:
        """The runs of tokens that are computed in one step. Raises InvalidRequest when one is longer than a step."""
        wholes = media.wholes
        longest = max((stop - start for start, stop in wholes), default=0)
        if longest > self.scheduler.token_budget:
            raise InvalidRequest(
                f"a picture fills {longest} tokens that must be computed together, but a step has "
                f"{self.scheduler.token_budget}; serve with a larger --max-num-batched-tokens"
            )
        return wholes

    def _validate(self, prompt: list[int], sampling: SamplingParams, most: int) -> None:
        vocabulary = self.model.vocab_size
        if not prompt:
            raise InvalidRequest("the prompt is empty; give at least one token", param="prompt")
        if len(prompt) >= most:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens, but the context holds {self.context} tokens, "
                "output included; shorten the prompt or serve with a larger --max-model-len",
                param="prompt",
            )
        wrong = next((token for token in prompt if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise InvalidRequest(
                f"prompt: token id {wrong} is outside the vocabulary of {vocabulary}", param="prompt"
            )
        check_token_ids(sampling, vocabulary)


def _cache_keys(request: Request) -> list[str]:
    """What decides a request's KV besides its tokens and media."""
    return [key for key in (request.cache_salt, request.adapter) if key]
