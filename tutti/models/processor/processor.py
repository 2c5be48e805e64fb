"""Requests to token prompts and tokens to text, for one model: the tokenizer, its chat template, its parsers.

Everything here runs in the process that serves requests, without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tutti.errors import CheckpointError, ConfigError, InvalidRequest
from tutti.graph import Graph, resolve
from tutti.hub.gguf import is_gguf
from tutti.models.parsers.base import OutputParser
from tutti.models.parsers.choose import NONE, ParserChoice, choose_parsers
from tutti.models.processor.files import read_json
from tutti.models.processor.insertion import InsertionMarks, find_marks
from tutti.models.processor.messages import said
from tutti.models.processor.narrator import Narrator, pieces
from tutti.models.processor.pooling import PoolingConfig, Preparer, read_pooling
from tutti.models.processor.recent import RecentMedia
from tutti.models.processor.speech import Transcriber
from tutti.models.processor.stream import TextStream
from tutti.models.processor.template import ChatTemplates, load_templates
from tutti.models.processor.tokenizer import Tokenizer, load_tokenizer
from tutti.models.registry import find_graph
from tutti.request import (
    POOLED,
    Chat,
    Drawing,
    Insertion,
    Media,
    MediaInput,
    Pair,
    Request,
    SamplingParams,
    Script,
    StructuredOutputs,
    Text,
    Tokens,
)

if TYPE_CHECKING:
    from tutti.models.processor.drawer import Drawer
    from tutti.models.processor.media import MediaReader  # NumPy: who sends text alone never waits for it

_DEFAULTS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """One model's processor.

    `generation_defaults` are `SamplingParams` fields that the checkpoint recommends; `kind` names the parsers in use;
    `vocab_size` is the number of ids the model knows, which may exceed the tokenizer's; `recent` are media read lately.
    `pooling` reads the texts of a model that gives nothing but vectors or scores.
    """

    tokenizer: Tokenizer
    templates: ChatTemplates
    parsers: ParserChoice
    generation_defaults: dict[str, Any]
    vocab_size: int
    media: MediaReader | None = None
    narrator: Narrator | None = None
    pooling: Preparer | None = None
    drawer: Drawer | None = None
    recent: RecentMedia = field(default_factory=RecentMedia)

    @property
    def modalities(self) -> frozenset[str]:
        """What the model takes besides text."""
        return frozenset() if self.media is None else self.media.modalities

    @property
    def transcriber(self) -> Transcriber | None:
        """Who writes down recordings, if the model can."""
        reader: object = self.media  # it may be one, too
        return reader if isinstance(reader, Transcriber) else None

    @property
    def converses(self) -> bool:
        """Whether the model continues conversations; one that writes down recordings does nothing else."""
        return self.has_chat_template and self.transcriber is None and self.pooling is None

    @property
    def kind(self) -> dict[str, str]:
        """The names of the parsers in use, for logs and model lists."""
        return {"tool_call_parser": self.parsers.tool, "reasoning_parser": self.parsers.reasoning}

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be rendered; a base model without a template completes text only."""
        return bool(self.templates.named)

    @property
    def marks(self) -> InsertionMarks | None:
        """The tokens between which the model inserts, if its vocabulary has any."""
        return find_marks(lambda name: self.tokenizer.token_id(name) is not None)

    def prepare(self, request: Request, *, context: int | None = None) -> Request:
        """`request` with its parts turned into one `Tokens` part and a `MediaInput` for each medium.

        A `Script` becomes the prompt that has it read aloud, and the reply where that is the text itself. Where the
        answer may have a picture, a `Drawing` that is complete stays with them.
        Works long on long text and on media: not for an event loop. With `context`, text that cannot fit in so many
        tokens is refused before it is tokenized. Raises InvalidRequest, InvalidMedia, ContextOverflow.
        """
        if request.pooled:
            return self._pooled(request, context)
        request = self._staged(request, context)
        if self.drawer is not None:
            request = self.drawer.converse(request)
        ids: list[int] = []
        media = [part for part in request.parts if isinstance(part, Media)]
        self._check_media(media)
        for part in request.parts:
            if isinstance(part, Text | Tokens | Chat | Insertion):
                ids += self._tokenize(part, context)
        if not ids:
            raise InvalidRequest("the prompt is empty: it must have at least one token", param="prompt")
        inputs = [part for part in request.parts if isinstance(part, MediaInput)]
        if media:
            assert self.media is not None
            ids, inputs = self.media.insert(ids, [self.recent.read(self.media, one) for one in media])
        drawn = [part for part in request.parts if isinstance(part, Drawing)]
        return msgspec.structs.replace(request, parts=(Tokens(tuple(ids)), *inputs, *drawn))

    def _pooled(self, request: Request, context: int | None) -> Request:
        """`request` with the tokens that a vector or a score is made of."""
        (part,) = request.parts
        pooling = self.pooling or Preparer(self.tokenizer, PoolingConfig())
        if not isinstance(part, Text | Pair | Tokens):
            raise InvalidRequest("a vector is made of text or tokens alone", param="input")
        if isinstance(part, Tokens):
            self._tokenize(part, None)
        elif request.pooling.truncate_prompt_tokens is None and context is not None:
            for text in (part.text,) if isinstance(part, Text) else (part.first, part.second):
                self.tokenizer.check_length(text, context)
        tokens = pooling.prepare(part, request.pooling, context)
        return msgspec.structs.replace(request, parts=(tokens,))

    def _staged(self, request: Request, context: int | None) -> Request:
        """`request` with its script, if it has one, as the narrator has it read."""
        script = next((part for part in request.parts if isinstance(part, Script)), None)
        if script is None:
            return request
        if context is not None:
            self.tokenizer.check_length(script.text, context)
        if self.narrator is None:
            raise InvalidRequest("this model does not read texts aloud", param="model")
        parts, reply = self.narrator.stage(script, request)
        said = tuple(self.tokenizer.encode(reply, False)) if reply else ()
        return msgspec.structs.replace(request, parts=parts, reply=said)

    def readings(self, request: Request, context: int) -> list[Request]:
        """The requests that speak the script of `request` one after the other, on a model of `context` tokens.

        A short text is one of them. Long texts take long: not for an event loop. Raises InvalidRequest.
        """
        script = next(part for part in request.parts if isinstance(part, Script))
        texts = pieces(script.text, lambda piece: len(self.tokenizer.encode(piece, False)), context)
        if not texts:
            raise InvalidRequest("there is nothing to say: the text is empty", param="input")
        return [
            msgspec.structs.replace(
                request, id=f"{request.id}-{number}", parts=(msgspec.structs.replace(script, text=text),)
            )
            for number, text in enumerate(texts)
        ]

    def _check_media(self, media: Sequence[Media]) -> None:
        for part in media:
            if part.modality not in self.modalities:
                takes = said(self.modalities)
                raise InvalidRequest(
                    f"the request has {part.modality} in it, and this model takes {takes} only",
                    param="messages",
                )
            if part.sound and "audio" not in self.modalities:
                raise InvalidRequest(
                    "this model does not hear, so it cannot take a video with its sound: leave use_audio_in_video out",
                    param="mm_processor_kwargs",
                )

    def _tokenize(self, part: Text | Tokens | Chat | Insertion, context: int | None) -> Sequence[int]:
        if isinstance(part, Tokens):
            for token in part.ids:
                if not 0 <= token < self.vocab_size:
                    raise InvalidRequest(
                        f"token id {token} is outside the vocabulary of {self.vocab_size:,} tokens",
                        param="prompt",
                    )
            return part.ids
        if isinstance(part, Chat):
            template = self.templates.choose(part)
            text = template.render(part)
            begins = not template.writes_begin and not self._begun(text)
        elif isinstance(part, Insertion):
            text = self.insert(part)
            begins = not self._begun(text)
        else:
            text, begins = part.text, part.add_special_tokens
        if context is not None:
            self.tokenizer.check_length(text, context)
        return self.tokenizer.encode(text, begins)

    def _begun(self, text: str) -> bool:
        """Whether a prompt has the token already with which a text begins."""
        begin = self.tokenizer.special_tokens.get("bos_token")
        return text.startswith(begin) if begin else False

    def render(self, chat: Chat) -> str:
        """The prompt text of `chat`. Raises InvalidRequest."""
        return self.templates.render(chat)

    @property
    def inserts(self) -> bool:
        """Whether the model writes a text between two others."""
        return self.templates.inserts or self.marks is not None

    def insert(self, part: Insertion) -> str:
        """The prompt text of an insertion: by Ollama's template, else by the marks. Raises InvalidRequest."""
        template = self.templates.ollama if part.go_template is None else self.templates.go(part.go_template)
        if template is not None and template.inserts:
            return template.insert(part)
        if self.marks is None or part.go_template is not None:
            raise InvalidRequest(
                "this model does not write between two texts: leave suffix out", param="suffix"
            )
        return self.marks.prompt(part)

    def stream(self, sampling: SamplingParams, prompt_ids: Sequence[int] = ()) -> TextStream:
        """The text of one answer to `prompt_ids`, token by token."""
        return TextStream(self.tokenizer, sampling, prompt_ids)

    def output_parser(self, chat: Chat) -> OutputParser:
        """Splits the answer to `chat` into content, reasoning and tool calls."""
        return self.parsers.output_parser(chat, self.render(chat) if self.parsers.reads_prompt else "")

    def tool_grammar(self, chat: Chat, *, parallel: bool = True) -> StructuredOutputs | None:
        """The form an answer to `chat` must take so that it calls a tool, by `chat.tool_choice`.

        None when the choice is left to the model ("auto", "none"). Without `parallel` it is one call. Raises
        InvalidRequest on a name that is not among the tools.
        """
        prompt = self.render(chat) if self.parsers.reads_prompt else ""
        return self.parsers.tool_grammar(chat, prompt, parallel=parallel)

    def thoughtful(self, form: StructuredOutputs, chat: Chat) -> StructuredOutputs:
        """`form`, a JSON schema or any JSON object, of an answer to `chat` after a thought. Raises InvalidRequest."""
        return self.parsers.thoughtful(form, chat, self.render(chat) if self.parsers.reads_prompt else "")


def load_processor(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    chat_template: str | None = None,
    template: str | None = None,
    tool_call_parser: str | None = None,
    reasoning_parser: str | None = None,
    generation_config: str = "auto",
    names: Sequence[str] = (),
) -> Processor:
    """The processor of the checkpoint folder `path`; the keywords are the command line's.

    `tokenizer` is another folder to take tokenizer and templates from; `chat_template` a file or Jinja text, `template`
    Ollama's, which counts before the checkpoint's; parsers are chosen by the template unless named ("none" turns one
    off); `generation_config` is "auto" (the checkpoint's), "vllm" (neutral) or a folder; `names` are those that the
    model is served by, which tell of one that draws what its files do not. Raises CheckpointError, ConfigError.
    """
    folder = Path(path)
    if (folder / "model_index.json").is_file():
        return _drawing_processor(folder, names)
    tokens_folder = Path(tokenizer) if tokenizer is not None else folder
    loaded = load_tokenizer(tokens_folder)
    config = read_json(folder / "config.json")
    graph = (
        find_graph(config, folder) if config.get("architectures") else None
    )  # None: a folder with a tokenizer only
    media = None if graph is None or graph.media is None else resolve(graph.media)(folder, config)
    narrator = None if graph is None or graph.narrator is None else resolve(graph.narrator)(folder, config)
    pools = graph is not None and not graph.outputs.isdisjoint(POOLED)
    modalities = frozenset() if media is None else media.modalities
    marks = config.get("media_marks") or {}
    templates = load_templates(
        tokens_folder, chat_template, loaded.special_tokens, modalities, template, marks
    )
    sizes = [config.get("vocab_size"), (config.get("text_config") or {}).get("vocab_size"), loaded.vocab_size]
    return Processor(
        tokenizer=loaded,
        templates=templates,
        parsers=choose_parsers(
            templates.source,
            special_tokens=frozenset(loaded.token(token) for token in loaded.special_ids),
            known_tokens=lambda name: loaded.token_id(name) is not None,
            traits=None if templates.ollama is None else templates.ollama.traits,
            tool=tool_call_parser,
            reasoning=reasoning_parser,
        ),
        generation_defaults=_generation_defaults(folder, generation_config),
        vocab_size=max(size for size in sizes if isinstance(size, int)),
        media=media,
        narrator=narrator,
        drawer=_unified_drawer(graph, folder, names),
        pooling=Preparer(loaded, read_pooling(folder, config)) if pools else None,
    )


def _unified_drawer(graph: Graph | None, folder: Path, names: Sequence[str]) -> Drawer | None:
    """What may be asked of a model that draws what it writes; None for one that does not draw."""
    if graph is None or graph.drawer is None:
        return None
    from tutti.formats.checkpoint import open_checkpoint  # which reads the headers of the weights

    drawer: Drawer = resolve(graph.drawer)(_called(folder, names), open_checkpoint(folder).config)
    return drawer


def _called(folder: Path, names: Sequence[str]) -> str:
    return " ".join((str(folder), *names))


def _drawing_processor(folder: Path, names: Sequence[str]) -> Processor:
    """The processor of a pipeline's folder: it has no language of its own, only a model that draws."""
    import tokenizers

    from tutti.formats.pipeline import read_pipeline
    from tutti.models.processor.drawer import DrawingProcessor

    config = read_pipeline(folder)
    graph = find_graph(config)
    if graph.drawer is None:
        raise CheckpointError(f"{folder}: {graph.name} does not draw, and model_index.json says it does")
    return DrawingProcessor(
        tokenizer=Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()), {}),
        templates=ChatTemplates({}, {}),
        parsers=ParserChoice(tool=NONE, reasoning=NONE),
        generation_defaults={},
        vocab_size=0,
        drawer=resolve(graph.drawer)(_called(folder, names), config),
    )


def _generation_defaults(folder: Path, source: str) -> dict[str, Any]:
    if source == "vllm":
        return {}
    chosen = folder if source == "auto" else Path(source)
    if not chosen.is_dir() and not is_gguf(chosen):
        raise ConfigError(
            f"--generation-config: {source} is neither auto, vllm nor a folder", param="generation_config"
        )
    config = read_json(chosen / "generation_config.json")
    found = {ours: config[theirs] for theirs, ours in _DEFAULTS.items() if config.get(theirs) is not None}
    if config.get("do_sample") is False:  # said, not merely left out: the likeliest token always
        found["temperature"] = 0.0
    return found
