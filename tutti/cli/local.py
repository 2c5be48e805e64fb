"""A model that answers inside this process, and leaves nothing behind: see `Session`.

A model of the store begins with the system message, the parameters and the messages that it was made with.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tutti.cli.attach import media_in
from tutti.cli.card import Card
from tutti.cli.drawn import StepBar
from tutti.cli.flags import EngineFlags
from tutti.cli.manner import OLLAMAS, OURS, Manner, sampling
from tutti.cli.printer import Printer
from tutti.cli.session import Answer, Cost, Message, spinner
from tutti.cli.speech import SpeechFile
from tutti.cli.waiting import waiting
from tutti.errors import InvalidRequest, TuttiError
from tutti.events import AudioDelta, Done, Embedding, Event, Failed, ImageDone, Progress, TextDelta, Usage
from tutti.hub.composition import is_composition
from tutti.request import Chat, Part, PoolingParams, Request, Text
from tutti.settings import EngineOptions

if TYPE_CHECKING:
    from tutti.gateway.composed.backend import ComposedBackend
    from tutti.gateway.local import LocalBackend
    from tutti.hub.model import StoredModel
    from tutti.llm.stream import AsyncLLM
    from tutti.models.processor import Processor

Prompt = tuple[Part, ...]  # a Chat or a Text, and the media it mentions

_NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}  # what `--generation-config vllm` asks for


class LocalSession:
    """A loaded model. `load_time` is in seconds, from the command to being ready."""

    parameters = OLLAMAS | frozenset(OURS)

    def __init__(
        self, flags: EngineFlags, options: EngineOptions, llm: AsyncLLM, stored: StoredModel | None
    ) -> None:
        """`stored` is what the store says of the model, if it comes from there."""
        self.name = options.served_model_name[0]
        self.load_time = 0.0
        self._flags = flags
        self._options = options
        self._llm = llm
        self._stored = stored
        self._recommended = (
            _NEUTRAL if options.generation_config == "vllm" else self.processor.generation_defaults
        )
        self.card = _card(self, stored)

    @classmethod
    async def open(cls, flags: EngineFlags, options: EngineOptions) -> LocalSession:
        """Load the model of `options`. Raises the TuttiError that keeps it from loading."""
        from tutti.hub.resolve import stored_model

        start = time.monotonic()
        name = options.served_model_name[0]
        stored = None if is_composition(options.model) else stored_model(name)
        with spinner(f"loading {name}"):
            llm = await open_llm(options, in_process=True)
        session = cls(flags, options, llm, stored)
        session.load_time = time.monotonic() - start
        return session

    @property
    def backend(self) -> LocalBackend | ComposedBackend:
        """Who answers."""
        return self._llm.backend

    @property
    def processor(self) -> Processor:
        """The model's tokenizer, templates and parsers."""
        return self.backend.processor

    @property
    def modalities(self) -> frozenset[str]:
        """See `Session`."""
        return self.processor.modalities

    @property
    def draws(self) -> bool:
        """Whether the model gives pictures, films or sounds and nothing else."""
        return self.backend.info.outputs in (("image",), ("video",), ("sound",))

    @property
    def illustrates(self) -> bool:
        """Whether what it writes may come with a picture."""
        return {"text", "image"} <= set(self.backend.info.outputs)

    def told(self, prompt: str) -> str:
        """`prompt`, of which a picture is wanted, as the model is told to draw it."""
        drawer = self.processor.drawer
        return prompt if drawer is None or drawer.told is None else drawer.told(prompt)

    @property
    def output(self) -> str:
        """What the model gives mainly; of one that draws, that is all."""
        return self.backend.info.outputs[0]

    @property
    def voices(self) -> tuple[str, ...]:
        """See `Session`."""
        return self.backend.info.voices

    async def ask(self, messages: Sequence[Message], manner: Manner, printer: Printer) -> Answer:
        """See `Session`."""
        start = time.monotonic()
        prompt = self._prompt(messages, manner)
        part = prompt[0]
        speech = None if manner.speak is None else SpeechFile(manner.speak)
        chat = part if isinstance(part, Chat) else Chat(())
        parser = self.processor.output_parser(chat) if isinstance(part, Chat) else None
        said: list[str] = []
        pictures: list[bytes] = []
        usage, reason = None, "cancelled"
        keep_special = parser is not None and parser.needs_special_tokens
        request = self._request(prompt, manner, keep_special=keep_special)
        async with aclosing(self._events(request, chat, printer)) as events:
            async for event in events:
                match event:
                    case ImageDone(preview=False):
                        pictures.append(event.png)
                    case TextDelta():
                        deltas = [event.text] if parser is None else parser.push(event.text)
                        _show(deltas, printer, said)
                    case AudioDelta() if speech is not None:
                        speech.add(event)
                    case Usage():
                        usage = event
                    case Failed():
                        raise event.error.error()
                    case Done():
                        reason = event.reason
        if parser is not None:
            _show(parser.finish(), printer, said)
        if speech is not None:
            speech.close()
        cost = None if usage is None else _cost(usage, time.monotonic() - start, self.load_time)
        return Answer("".join(said), cost, reason, tuple(pictures))

    async def embed(self, text: str, truncate: bool | None, dimensions: int) -> list[float]:
        """The vector of `text`, of a model that gives them; what is too long is cut, unless `truncate` is false.

        Raises InvalidRequest and its kinds.
        """
        request = Request(
            id=uuid.uuid4().hex,
            parts=(Text(text),),
            pooling=PoolingParams(
                dimensions=dimensions or None,
                normalize=True,
                truncate_prompt_tokens=None if truncate is False else -1,
            ),
            modalities=("embedding",),
            model=self.name,
            arrival=time.time(),
        )
        vector: list[float] = []
        async with aclosing(self.backend.generate(request)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, Embedding):
                    vector = list(event.vector)
        return vector

    async def other(self, name: str) -> LocalSession:
        """See `Session`. Where the other model cannot be loaded, this one is loaded again, and stays."""
        options = await asyncio.to_thread(self._flags.options, name, max_num_seqs=self._options.max_num_seqs)
        await self.close()
        try:
            return await LocalSession.open(self._flags, options)
        except TuttiError:
            self._llm = await open_llm(self._options, in_process=True)
            raise

    async def save(self, name: str, messages: Sequence[Message], manner: Manner) -> None:
        """See `Session`. Parameters that a Modelfile does not know are left out."""
        from tutti.formats.gguf.header import describe
        from tutti.hub.create import create
        from tutti.hub.model import parameter_lines
        from tutti.hub.modelfile import Command, Modelfile
        from tutti.hub.store import open_store

        if is_composition(self._options.model):
            raise InvalidRequest("a graph by file is no model of the store: keep its file")
        source = self.name if self._stored is not None else str(Path(self._options.model).absolute())
        kept = {key: value for key, value in manner.parameters.items() if key not in OURS}
        commands = [Command("from", source)]
        commands += [Command("system", manner.system)] if manner.system else []
        commands += [Command("parameter", value, key) for key, value in parameter_lines(kept)]
        commands += [
            Command("message", text, message["role"])
            for message in (*self.card.messages, *messages)
            if (text := text_of(message))
        ]
        async with aclosing(
            create(open_store(), name, Modelfile(tuple(commands)), describe, folder=Path())
        ) as steps:
            async for _ in steps:
                pass

    async def stored(self) -> str:
        """See `Session`."""
        from tutti.cli.stored import listed

        return listed()

    async def close(self) -> None:
        """See `Session`."""
        await self._llm.close()

    async def _events(self, request: Request, chat: Chat, printer: Printer) -> AsyncGenerator[Event, None]:
        """The answer's events; before the first one, media that take a while are named, and steps have a bar."""
        with waiting(chat.messages) as sign, StepBar() as bar:
            async with aclosing(self.backend.generate(request)) as events:
                async for event in events:
                    if sign is not None:
                        sign.end()
                    if isinstance(event, Progress):
                        printer.pause()
                        bar.show(event.done, event.total)
                    yield event

    def _prompt(self, messages: Sequence[Message], manner: Manner) -> Prompt:
        """The prompt for `messages`; a base model, which has no chat template, gets the last one as it stands."""
        media = media_in(messages)
        if not self.processor.has_chat_template:
            if media:
                raise InvalidRequest(
                    "this model has no chat template, so there is no place for media in its prompt"
                )
            return (Text(messages[-1]["content"]),)
        before = [{"role": "system", "content": manner.system}] if manner.system else []
        return (Chat((*before, *messages), template_kwargs=manner.template_kwargs()), *media)

    def _request(self, prompt: Prompt, manner: Manner, *, keep_special: bool) -> Request:
        made_with = self._options.preset.parameters
        chosen = {name: value for name, value in made_with.items() if name in OLLAMAS} | manner.parameters
        context = chosen.get("num_ctx", 0)
        if manner.sheet.seed is not None:
            chosen = {"seed": manner.sheet.seed} | chosen
        modalities = ["text"]
        modalities += [] if manner.speak is None else ["audio"]
        modalities += ["image"] if self.illustrates else []
        return Request(
            id=uuid.uuid4().hex,
            parts=(*prompt, manner.sheet.drawing) if self.illustrates else prompt,
            sampling=sampling(
                chosen, self._recommended, form=manner.form, skip_special_tokens=not keep_special
            ),
            modalities=tuple(modalities),
            voice=manner.voice,
            model=self.name,
            context=context if context > 0 else None,
            arrival=time.time(),
        )


def text_of(message: Message) -> str:
    """What a message says, without its media."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


async def open_llm(options: EngineOptions, *, in_process: bool) -> AsyncLLM:
    """The model that `options` describe, ready to answer. The parts of a graph by file are processes anyhow."""
    from tutti.llm.stream import AsyncLLM

    named = msgspec.structs.asdict(options)
    name = named.pop("model")
    return await AsyncLLM.open(name, in_process=in_process and not is_composition(name), **named)


def _show(deltas: list[Any], printer: Printer, said: list[str]) -> None:
    """Print what a parser made of the text; `said` collects the answer itself."""
    from tutti.models.parsers.base import ContentDelta, ReasoningDelta, ToolCallDelta

    for delta in deltas:
        if isinstance(delta, str):
            printer.answer(delta)
            said.append(delta)
        elif isinstance(delta, ContentDelta):
            printer.answer(delta.text)
            said.append(delta.text)
        elif isinstance(delta, ReasoningDelta):
            printer.thinking(delta.text)
        elif isinstance(delta, ToolCallDelta):  # nobody here calls tools: it is shown as it stands
            printer.answer(f"{delta.name} " if delta.name is not None else delta.arguments)


def _cost(usage: Usage, total: float, load: float) -> Cost:
    return Cost(
        total, load, usage.prompt_tokens, usage.prefill_time, usage.completion_tokens, usage.decode_time
    )


def _card(session: LocalSession, stored: StoredModel | None) -> Card:
    """What the engine and the store say of the model."""
    from tutti.cli.show import literal, modelfile_of
    from tutti.gateway.abilities import capabilities
    from tutti.hub.create import format_count
    from tutti.hub.model import parameter_lines

    info, processor, model = session.backend.info, session.processor, session.backend.models()[0]
    rows = [
        ("architecture", info.family or ", ".join(info.architectures)),
        ("parameters", format_count(info.parameters) if info.parameters else ""),
        ("context length", str(info.context) if info.context else ""),
        ("vocabulary", str(info.vocab_size) if info.vocab_size else ""),
        ("quantization", info.quantization),
    ]
    engine = [("precision", info.dtype), ("device", info.device)]
    engine += [(name.replace("_", " "), value) for name, value in processor.kind.items()]
    template = processor.templates.source or ""
    lines = [] if stored is None else parameter_lines(stored.parameters)
    parameters = "\n".join(f"{name:<30} {literal(value)}" for name, value in lines)
    return Card(
        sections=(
            ("Model", [row for row in rows if row[1]]),
            ("Engine", engine),
            ("Memory", [(line,) for line in info.plan.splitlines()]),
        ),
        capabilities=tuple(capabilities(session.backend, model)),
        license="" if stored is None else "\n".join(stored.licenses),
        modelfile=_modelfile(session.name, template) if stored is None else modelfile_of(stored),
        parameters=parameters or _recommended(processor.generation_defaults),
        system="" if stored is None else stored.system,
        template=template,
        messages=()
        if stored is None
        else tuple({"role": message.role, "content": message.content} for message in stored.messages),
    )


def _modelfile(name: str, template: str) -> str:
    from tutti.hub.modelfile import Command, Modelfile

    commands = (Command("from", name), *([Command("template", template)] if template else []))
    return str(Modelfile(commands))


def _recommended(defaults: dict[str, Any]) -> str:
    """The checkpoint's own sampling, as lines of parameters."""
    return "\n".join(f"{name:<30} {value}" for name, value in defaults.items() if value is not None)
