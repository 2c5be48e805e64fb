"""Structured outputs: which tokens may come next, by xgrammar.

Owns compiling (in threads, cached, limited in size and time), the state of one request's grammar, and filling the
masks of a batch while the forward pass runs. What a caller may ask is checked in `grammar_schema`; the mask is
applied in `penalties`. xgrammar imports torch and transformers, so it is imported when the first grammar comes.

A grammar whose next mask takes too long to find (ambiguous ones can take minutes) fails its own request: its mask
allows nothing from then on, and `GrammarState.error` says why.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutti.errors import InvalidGrammar, StageFailed, TuttiError
from tutti.layers.grammar_schema import canonical
from tutti.layers.workers import WorkerPool
from tutti.request import StructuredOutputs

if TYPE_CHECKING:
    import xgrammar

COMPILE_SECONDS = 20.0
MASK_SECONDS = 5.0  # for one batch's masks; the other rows wait as long for a grammar that does not end
CACHE_ENTRIES = 256
CACHE_BYTES = 512 << 20
# Processor seconds a grammar may take, beside so much per token. Usual ones take 0.1 ms per token.
BUDGET_SECONDS, BUDGET_PER_TOKEN = 3.0, 0.02
# Models that have nothing to say like to go on with blanks; this is room for any indentation.
_WHITESPACE_LIMIT = 64
_ORIGIN = re.compile(r"\[[\d:]+\] /\S+?:\d+: |Check failed: \(.*?\) is false: ")  # of xgrammar's messages
_MESSAGE_LIMIT = 400
# The signs of a string of limited length, as xgrammar prints them, and as JSON wants them.
_LIMITED, _NO_CONTROL = r"[^\"\\\r\n]", r"[^\0-\x1f\"\\\r\n]"


@dataclass(frozen=True, slots=True)
class TokenTable:
    """What grammars need of a tokenizer.

    `pieces`: the bytes each token adds to the text, by id, b"" for ids that are not used; `special`: tokens that are
    not text (they may only occur where a structural tag names them).
    """

    pieces: Sequence[bytes]
    special: Collection[int]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled grammar, shared by all requests that ask for it."""

    compiled: xgrammar.CompiledGrammar
    stop_ids: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of memory it holds, about."""
        return int(self.compiled.memory_size_bytes)


class GrammarState:
    """Where one request is in its grammar. Not to be used by two threads at once; by which does not matter."""

    def __init__(self, grammar: Grammar) -> None:
        import xgrammar

        self.error: TuttiError | None = None
        self._grammar = grammar
        # Without stop tokens the end of the grammar is the end.
        self._matcher = xgrammar.GrammarMatcher(
            grammar.compiled, terminate_without_stop_token=not grammar.stop_ids
        )
        self._seconds = 0.0
        self._tokens = 0

    @property
    def finished(self) -> bool:
        """Whether nothing can follow: a stop token was accepted, or, where there are none, the grammar is complete."""
        return bool(self._matcher.is_terminated())

    def fill(self, bitmask: Tensor, row: int) -> None:
        """Write into row `row` of `bitmask` (int32 [rows, words]) which tokens may come next.

        A finished grammar allows the stop tokens alone, one with an `error` nothing.
        """
        if self.error is None and self.finished:
            bitmask[row] = 0
            for token in self._grammar.stop_ids:
                bitmask[row, token // 32] |= _bit(token)
        elif self.error is None:
            began = time.thread_time()
            try:
                self._matcher.fill_next_token_bitmask(bitmask, row)
            except RuntimeError as error:
                self.error = StageFailed(f"the structured output's next tokens could not be found: {error}")
            self._spend(time.thread_time() - began)
        if self.error is not None:
            bitmask[row] = 0

    def accept(self, token: int) -> bool:
        """Take `token` as the next; False, and nothing is changed, if the grammar does not allow it."""
        if self.error is not None:
            return False
        began = time.thread_time()
        accepted = bool(self._matcher.accept_token(token))
        self._tokens += accepted
        self._spend(time.thread_time() - began)
        return accepted

    def rollback(self, tokens: int = 1) -> None:
        """Take the last `tokens` accepted tokens back."""
        if tokens > self._tokens:
            raise ValueError(f"cannot take back {tokens} tokens, {self._tokens} were accepted")
        if tokens:
            self._matcher.rollback(tokens)
            self._tokens -= tokens

    def give_up(self) -> None:
        """Allow nothing from now on: finding the next tokens takes too long."""
        self.error = InvalidGrammar(
            f"the structured output's grammar is too ambiguous: after {self._tokens} tokens it takes too long to find "
            "what may follow; rewrite it so that fewer rules can match the same text",
            param="structured_outputs",
        )

    def _spend(self, seconds: float) -> None:
        self._seconds += seconds
        if self._seconds > BUDGET_SECONDS + BUDGET_PER_TOKEN * self._tokens:
            self.give_up()


class GrammarCompiler:
    """Compiles structured outputs for one vocabulary.

    `load` gives the tokens; it is called once, in the first compiling thread. `vocab_size` is that of the logits and
    may exceed the tokenizer's; `eos_ids` are the tokens that may follow a complete output. All methods may be called
    from any thread.
    """

    def __init__(
        self,
        load: Callable[[], TokenTable],
        vocab_size: int,
        eos_ids: Collection[int],
        *,
        compile_seconds: float = COMPILE_SECONDS,
        mask_seconds: float = MASK_SECONDS,
    ) -> None:
        self.vocab_size = vocab_size
        self._load = load
        self._stop_ids = tuple(sorted(token for token in eos_ids if token < vocab_size))
        self._compile_seconds = compile_seconds
        self._mask_seconds = mask_seconds
        self._lock = Lock()
        self._building = Lock()
        self._cache: OrderedDict[tuple[str, str], Future[Grammar]] = OrderedDict()  # by field and text
        self._compilers: dict[bool, xgrammar.GrammarCompiler] = {}  # by whether special tokens count as text
        self._compiling = WorkerPool("grammar-compile", workers=1, abandoned=4)
        self._masking = WorkerPool("grammar-mask", workers=1, abandoned=4)

    # --- compiling --------------------------------------------------------------------------------------------------

    def compile(self, outputs: StructuredOutputs) -> Future[GrammarState]:
        """A new state at the beginning of the grammar of `outputs`, when it is compiled.

        The future fails with InvalidGrammar (its `param` names the field) for what cannot be compiled in the limits
        of size and time, and with Busy when too many that exceeded the time are still running.
        """
        state: Future[GrammarState] = Future()
        try:
            kind, text = canonical(outputs)
            compiled = self._compiled(kind, text, _field(outputs))
        except TuttiError as error:
            state.set_exception(error)
            return state

        def deliver(done: Future[Grammar]) -> None:
            error = done.exception()
            if error is not None:
                state.set_exception(error)
            else:
                state.set_result(GrammarState(done.result()))

        compiled.add_done_callback(deliver)
        return state

    def _compiled(self, kind: str, text: str, field: str) -> Future[Grammar]:
        """The grammar from the cache, or the future of its compilation, which others may await too."""
        with self._lock:
            found = self._cache.get((field, text))
            if found is not None:
                self._cache.move_to_end((field, text))
                return found
            special = kind == "structural_tag"
            if special not in self._compilers:  # loading takes its time, which is not the form's fault
                self._compiling.submit(lambda: self._compiler(special=special))
            job = self._compiling.submit(lambda: self._compile(kind, text, field), self._compile_seconds)
            self._make_room()
            made: Future[Grammar] = Future()
            self._cache[field, text] = made
        job.future.add_done_callback(lambda done: self._deliver(done, made, field))
        return made

    def _deliver(self, done: Future[Grammar], made: Future[Grammar], field: str) -> None:
        error = done.exception()
        if isinstance(error, TimeoutError):
            error = InvalidGrammar(
                f"{field} takes more than {self._compile_seconds:g} seconds to compile; make it simpler",
                param=field,
            )
        elif error is not None and not isinstance(error, TuttiError):
            error = StageFailed(f"{field} could not be compiled: {type(error).__name__}: {error}")
        if error is not None:
            made.set_exception(error)
        else:
            made.set_result(done.result())

    def _make_room(self) -> None:
        """Drop what was not used longest until one more grammar is within the cache's limits; the lock is held."""
        sizes = {
            key: grammar.result().nbytes if grammar.exception() is None else 0
            for key, grammar in self._cache.items()
            if grammar.done()
        }
        total = sum(sizes.values())
        for key, size in sizes.items():
            if len(self._cache) < CACHE_ENTRIES and total < CACHE_BYTES:
                return
            total -= size
            del self._cache[key]

    def _compile(self, kind: str, text: str, field: str) -> Grammar:
        """Compile, in a worker's thread."""
        import xgrammar

        compiler = self._compiler(special=kind == "structural_tag")
        try:
            if kind == "regex":
                compiled = compiler.compile_regex(text)
            elif kind == "grammar":
                compiled = compiler.compile_grammar(text)
            elif kind == "json":
                grammar = xgrammar.Grammar.from_json_schema(text, max_whitespace_cnt=_WHITESPACE_LIMIT)
                compiled = compiler.compile_grammar(_escape_strings(grammar, text))
            else:
                compiled = compiler.compile_structural_tag(text)
                if "Length" in text:
                    compiled = compiler.compile_grammar(str(compiled.grammar).replace(_LIMITED, _NO_CONTROL))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = _ORIGIN.sub("", str(error)).strip()[:_MESSAGE_LIMIT]
            raise InvalidGrammar(f"{field}: {reason}", param=field) from error
        return Grammar(compiled, self._stop_ids)

    def _compiler(self, *, special: bool) -> xgrammar.GrammarCompiler:
        """xgrammar's compiler for the vocabulary, with special tokens' text or without."""
        import xgrammar

        with self._building:
            if special not in self._compilers:
                table = self._load()
                pieces = list(table.pieces[: self.vocab_size])
                if not special:
                    for token in table.special:
                        if token < len(pieces):
                            pieces[token] = b""
                info = xgrammar.TokenizerInfo(
                    pieces,
                    xgrammar.VocabType.RAW,
                    vocab_size=self.vocab_size,
                    stop_token_ids=list(self._stop_ids),
                )
                self._compilers[special] = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
            return self._compilers[special]

    # --- masks ------------------------------------------------------------------------------------------------------

    def bitmask(self, rows: int) -> Tensor:
        """An int32 mask [rows, ceil(vocab_size / 32)] that allows everything."""
        return torch.full((rows, -(-self.vocab_size // 32)), -1, dtype=torch.int32)

    def masks(self, states: Sequence[GrammarState | None]) -> PendingMasks:
        """Begin to fill one mask per state (None: no grammar) in a thread; call `result` when the logits are there."""
        return PendingMasks(self._masking, states, self.bitmask(len(states)), self._mask_seconds)


class PendingMasks:
    """The masks of a batch, being filled."""

    def __init__(
        self, pool: WorkerPool, states: Sequence[GrammarState | None], bitmask: Tensor, seconds: float
    ) -> None:
        self._pool = pool
        self._states = states
        self._bitmask = bitmask
        self._seconds = seconds
        self._row = 0  # being filled
        self._job = pool.submit(lambda: self._fill(bitmask, 0))

    def result(self) -> Tensor:
        """The filled mask, int32 [rows, words]. Gives up the one grammar that does not end, and fills the others."""
        while True:
            try:
                self._job.future.result(self._seconds)
                return self._bitmask
            except FutureTimeout:
                if self._job.abandon():
                    self._skip()

    def _fill(self, bitmask: Tensor, first: int) -> None:
        for row in range(first, len(self._states)):
            if self._bitmask is not bitmask:
                return  # this thread was left behind
            self._row = row
            state = self._states[row]
            if state is not None:
                state.fill(bitmask, row)

    def _skip(self) -> None:
        """Leave the row being filled behind, and go on after it with a mask that the old thread does not touch."""
        left, self._bitmask = self._row, self._bitmask.clone()
        state = self._states[left]
        if state is not None:
            state.give_up()
        bitmask = self._bitmask
        bitmask[left] = 0
        self._job = self._pool.submit(lambda: self._fill(bitmask, left + 1))


def _field(outputs: StructuredOutputs) -> str:
    """The name of the field that is set."""
    return next(name for name in outputs.__struct_fields__ if getattr(outputs, name) not in (None, False))


def _escape_strings(grammar: xgrammar.Grammar, schema: str) -> xgrammar.Grammar | str:
    """The grammar of `schema`, whose strings of limited length hold no raw control characters, which JSON forbids.

    xgrammar 0.2.8 allows them there, and no escapes. The rewritten rule allows the escapes of one sign each.
    """
    if "Length" not in schema:
        return grammar
    return str(grammar).replace(f"(({_LIMITED}))", rf'(({_NO_CONTROL}) | ("\\" [\"\\/bfnrt]))')


def _bit(token: int) -> int:
    """The bit of `token` in its word, as a signed 32-bit integer."""
    return 1 << token % 32 if token % 32 < 31 else -(1 << 31)
