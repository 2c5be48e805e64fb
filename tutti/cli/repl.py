"""The conversation of `tutti run`: prompts, `/` commands, history; as Ollama's users know it.

`Repl` reads a line, obeys it or has it answered, and keeps the messages. It knows nothing of tokens, nor whether a
server or this process answers.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from tutti.cli import repl_help
from tutti.cli.manner import Manner
from tutti.cli.printer import terminal_printer
from tutti.cli.session import Message, Session, answer_to, message_of, print_statistics
from tutti.cli.speech import check
from tutti.errors import ConfigError, ContextOverflow, InvalidModelName, ModelNotFound, TuttiError
from tutti.models.processor.messages import said

_PLACEHOLDER = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")
_QUOTES = '"""'

Handler = Callable[[list[str], str], Awaitable[None]]


class Repl:
    """One conversation, begun with `session`'s model. `history` is the file of what was typed, if one is kept."""

    def __init__(self, session: Session, manner: Manner, history: Path, *, keeps: bool = True) -> None:
        self.session = session
        self.manner = manner
        self.messages: list[Message] = []
        history.parent.mkdir(parents=True, exist_ok=True)
        self._file = FileHistory(str(history))
        self._prompt = _new_prompt(self._file if keeps else InMemoryHistory())
        self._asking: asyncio.Task[Any] | None = None
        self._commands: dict[str, Handler] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/list": self._list,
            "/clear": self._clear,
            "/voice": self._voice,
            "/?": self._help,
            "/help": self._help,
        }

    async def run(self) -> None:
        """Converse until /bye or Ctrl+D."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        self._show_beginning()
        while True:
            try:
                line, is_message = await self._read()
            except EOFError:
                return
            except KeyboardInterrupt:
                print("\nUse Ctrl + d or /bye to exit.\n")
                continue
            try:
                if is_message:
                    await self._answer(line)
                elif not await self._take(line):
                    return
            except ContextOverflow as error:
                print(
                    f"Error: {error}\nUse /clear to begin anew, or start with a larger --max-model-len.\n",
                    file=sys.stderr,
                )
            except TuttiError as error:
                print(f"Error: {error}\n", file=sys.stderr)

    def _interrupt(self) -> None:
        """Ctrl+C stops the answer; where there is none it does nothing (the prompt reads it as a key)."""
        if self._asking is not None:
            self._asking.cancel()

    def _show_beginning(self) -> None:
        """The messages that conversations with the model begin with."""
        for message in self.session.card.messages:
            if message["role"] == "user":
                print(f">>> {message['content']}")
            elif message["role"] == "assistant":
                printer = terminal_printer(wrap=self.manner.wrap, hide_thinking=True)
                printer.answer(message["content"])
                printer.end()
                print()

    async def _read(self) -> tuple[str, bool]:
        """One line, and whether it is a message for sure; between triple quotes it may have several lines."""
        line = await self._prompt.prompt_async(">>> ", placeholder=_PLACEHOLDER, handle_sigint=False)
        words = line.split(None, 2)
        if line.lstrip().startswith(_QUOTES):
            return await self._rest(line.lstrip().removeprefix(_QUOTES)), True
        if words[:2] == ["/set", "system"] and words[2:] and words[2].startswith(_QUOTES):
            return f"/set system {await self._rest(words[2].removeprefix(_QUOTES))}", False
        return line, False

    async def _rest(self, text: str) -> str:
        """`text` and the lines that follow, up to the closing quotes."""
        while not text.rstrip().endswith(_QUOTES):
            text += "\n" + await self._prompt.prompt_async("... ", handle_sigint=False)
        return text.rstrip().removesuffix(_QUOTES)

    async def _take(self, line: str) -> bool:
        """Obey or answer `line`; False ends the conversation."""
        words = line.split()
        if not words:
            return True
        if words[0] in ("/bye", "/exit"):
            return False
        if words[0] in self._commands:
            await self._commands[words[0]](words[1:], line)
        elif line.startswith("/") and "/" not in words[0][1:]:  # /tmp/picture.png is no command
            print(f"Unknown command '{words[0]}'. Type /? for help")
        else:
            await self._answer(line)
        return True

    async def _answer(self, text: str) -> None:
        if not text.strip():
            return
        messages = [*self.messages, message_of(text, self.session)]
        answer = await answer_to(self.session, messages, self.manner, self._watch)
        print()
        if answer is None:
            return
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        if self.manner.verbose:
            print_statistics(answer.cost, sys.stderr)
            print()

    @contextmanager
    def _watch(self, task: asyncio.Task[Any]) -> Iterator[None]:
        self._asking = task
        try:
            yield
        finally:
            self._asking = None

    async def _load(self, words: list[str], _: str) -> None:
        if len(words) != 1:
            print("Usage:\n  /load <modelname>")
            return
        print(f"Loading model '{words[0]}'")
        try:
            self.session = await self.session.other(words[0])
        except (ModelNotFound, InvalidModelName):
            print(f"Couldn't find model '{words[0]}'")
            return
        self.messages, self.manner.system = [], ""
        self._show_beginning()

    async def _save(self, words: list[str], _: str) -> None:
        if len(words) != 1:
            print("Usage:\n  /save <modelname>")
            return
        try:
            await self.session.save(words[0], self.messages, self.manner)
        except InvalidModelName:
            print(f"error: The model name '{words[0]}' is invalid")
            return
        print(f"Created new model '{words[0]}'")

    async def _list(self, _: list[str], __: str) -> None:
        print(await self.session.stored())

    async def _clear(self, _: list[str], __: str) -> None:
        self.messages = []
        print("Cleared session context")

    async def _voice(self, words: list[str], _: str) -> None:
        """/voice FILE [NAME]: answers are spoken into the file, by the voice; /voice off: no longer."""
        voices = self.session.voices
        if not voices:
            print("This model does not speak, or a server has it: then begin with --speak FILE.")
        elif words == ["off"]:
            self.manner.speak = None
            print("Answers are no longer spoken.")
        elif words:
            check(Path(words[0]))
            self.manner.speak, self.manner.voice = Path(words[0]), words[1] if len(words) > 1 else None
            print(f"Answers are spoken into {words[0]}.")
        else:
            print(f"Usage: /voice <file> [name]; /voice off. Voices: {', '.join(voices)}")

    async def _help(self, words: list[str], _: str) -> None:
        topic = words[0].removeprefix("/") if words else ""
        topics = {"set": repl_help.SET, "show": repl_help.SHOW}
        topics |= dict.fromkeys(("shortcut", "shortcuts"), repl_help.SHORTCUTS)
        if topic in topics:
            print(topics[topic])
            return
        print(repl_help.COMMANDS, end="")
        kinds = said(self.session.modalities).removeprefix("text, ")
        print(repl_help.MEDIA.format(kinds=kinds) if self.session.modalities else "")

    async def _set(self, words: list[str], line: str) -> None:
        manner = self.manner
        match words:
            case ["parameter", name, *values] if values:
                self._set_parameter(name, values)
            case ["parameter", *_]:
                print(repl_help.parameters(self.session.parameters))
            case ["system", _, *_]:
                manner.system = line.split(None, 2)[2].strip('"')
                print("Set system message.")
            case ["history"]:
                self._prompt = _new_prompt(self._file)
            case ["nohistory"]:
                self._prompt = _new_prompt(InMemoryHistory())
            case ["wordwrap" | "nowordwrap" as word]:
                manner.wrap = word == "wordwrap"
                print(f"Set '{word}' mode.")
            case ["verbose" | "quiet" as word]:
                manner.verbose = word == "verbose"
                print(f"Set '{word}' mode.")
            case ["format", *_] | ["noformat"]:
                self._set_format(line.split(None, 2)[2:])
            case ["think", *_] | ["nothink"]:
                self._set_think(words)
            case [] | ["?" | "help" | "system", *_]:
                print(repl_help.SET)
            case _:
                print(f"Unknown command '/set {words[0]}'. Type /? for help")

    def _set_parameter(self, name: str, values: list[str]) -> None:
        try:
            self.manner.set_parameter(name, values, self.session.parameters)
        except ConfigError as error:
            print(f'Couldn\'t set parameter: "{error}"')
        else:
            print(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _set_format(self, texts: list[str]) -> None:
        """JSON, of a schema if one is given; without anything: no form."""
        if not texts:
            self.manner.form = None
            print("Disabled format.")
            return
        try:
            self.manner.set_format(texts[0])
        except ConfigError:
            print("Invalid or missing format. For 'json' mode use '/set format json'")
        else:
            print("Set format to 'json' mode." if texts[0] == "json" else "Set format to the schema.")

    def _set_think(self, words: list[str]) -> None:
        mode, level = words[0], words[1] if len(words) > 1 else ""
        self.manner.set_think("false" if mode == "nothink" else level or "true")
        if "thinking" not in self.session.card.capabilities:
            print(f'warning: model "{self.session.name}" does not support thinking output', file=sys.stderr)
        print(f"Set '{mode}' mode to '{level}'." if level else f"Set '{mode}' mode.")

    async def _show(self, words: list[str], _: str) -> None:
        card = self.session.card
        match words:
            case ["info"]:
                print(card.info())
            case ["license"]:
                print(card.license or "No license was specified for this model.")
            case ["modelfile"]:
                print(card.modelfile)
            case ["parameters"]:
                self._show_parameters()
            case ["system"]:
                text = self.manner.system or card.system
                print(f"{text}\n" if text else "No system message was specified for this model.")
            case ["template"]:
                print(card.template or "No prompt template was specified for this model.")
            case [] | ["?" | "help"]:
                print(repl_help.SHOW)
            case _:
                print(f"Unknown command '/show {words[0]}'. Type /? for help")

    def _show_parameters(self) -> None:
        print("Model defined parameters:")
        defined = self.session.card.parameters or "No additional parameters were specified for this model."
        print("".join(f"  {line}\n" for line in defined.splitlines()))
        if self.manner.parameters:
            print("User defined parameters:")
            for name, value in self.manner.parameters.items():
                print(f"  {name:<30} {', '.join(value) if isinstance(value, list) else value}")
            print()


def _new_prompt(history: History) -> PromptSession[str]:
    keys = KeyBindings()

    @keys.add("c-g")
    def edit(event: KeyPressEvent) -> None:
        """Compose in the editor that the environment names."""
        event.current_buffer.open_in_editor()

    return PromptSession(history=history, enable_history_search=True, key_bindings=keys)
