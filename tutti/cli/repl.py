"""The conversation of `tutti run`: prompts, `/` commands, history; as Ollama's users know it.

`Repl` reads a line, obeys it or has it answered, and keeps the messages. It knows nothing of tokens.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from tutti.cli.manner import Manner
from tutti.cli.printer import terminal_printer
from tutti.cli.session import Session, print_statistics
from tutti.cli.speech import check
from tutti.errors import ContextOverflow, TuttiError

_PLACEHOLDER = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")
_QUOTES = '"""'

_HELP = """Available Commands:
  /set            Set session variables
  /show           Show model information
  /clear          Clear session context
  /voice          Have answers spoken into a file
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use \"\"\" to begin a multi-line message.
"""
_SET_HELP = """Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Enable history
  /set nohistory         Disable history
  /set wordwrap          Enable wordwrap
  /set nowordwrap        Disable wordwrap
  /set format json       Enable JSON mode
  /set noformat          Disable formatting
  /set verbose           Show LLM stats
  /set quiet             Disable LLM stats
  /set think [level]     Enable thinking
  /set nothink           Disable thinking
"""
_SHOW_HELP = """Available Commands:
  /show info         Show details for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template
"""
_SHORTCUTS = """Available keyboard shortcuts:
  Ctrl + a            Move to the beginning of the line (Home)
  Ctrl + e            Move to the end of the line (End)
  Alt + b, Alt + f    Move back or forward one word
  Ctrl + k            Delete the sentence after the cursor
  Ctrl + u            Delete the sentence before the cursor
  Ctrl + w            Delete the word before the cursor
  Ctrl + l            Clear the screen
  Ctrl + c            Stop the model from responding
  Ctrl + d            Exit (/bye)
"""


class Repl:
    """One conversation with `session`'s model. `history` is the file of what was typed."""

    def __init__(self, session: Session, manner: Manner, history: Path) -> None:
        self.session = session
        self.manner = manner
        self.messages: list[dict[str, Any]] = []
        history.parent.mkdir(parents=True, exist_ok=True)
        self._file = FileHistory(str(history))
        self._prompt = self._new_prompt(self._file)
        self._asking: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        """Converse until /bye or Ctrl+D."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        while True:
            try:
                line = await self._read()
            except EOFError:
                return
            except KeyboardInterrupt:
                print("\nUse Ctrl + d or /bye to exit.\n")
                continue
            try:
                if not await self._take(line):
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

    async def _read(self) -> str:
        """One message; between triple quotes it may have several lines."""
        line = await self._prompt.prompt_async(">>> ", placeholder=_PLACEHOLDER, handle_sigint=False)
        if not line.lstrip().startswith(_QUOTES):
            return line
        text = line.lstrip().removeprefix(_QUOTES)
        while not text.rstrip().endswith(_QUOTES):
            text += "\n" + await self._prompt.prompt_async("... ", handle_sigint=False)
        return text.rstrip().removesuffix(_QUOTES)

    async def _take(self, line: str) -> bool:
        """Obey or answer `line`; False ends the conversation."""
        words = line.split()
        if not words:
            return True
        commands: dict[str, Callable[[list[str]], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/clear": self._clear,
            "/voice": self._voice,
            "/?": self._help,
            "/help": self._help,
        }
        if words[0] in ("/bye", "/exit"):
            return False
        if words[0] in commands:
            commands[words[0]](words[1:])
        elif line.startswith("/") and "/" not in words[0][1:]:  # /tmp/picture.png is no command
            print(f"Unknown command '{words[0]}'. Type /? for help")
        else:
            await self._answer(line)
        return True

    async def _answer(self, text: str) -> None:
        messages = [*self.messages, self.session.message(text)]
        printer = terminal_printer(wrap=self.manner.wrap, hide_thinking=self.manner.hide_thinking)
        prompt = self.session.chat(messages, self.manner)
        self._asking = asyncio.ensure_future(self.session.ask(prompt, self.manner, printer))
        try:
            answer = await self._asking
        except asyncio.CancelledError:
            return
        finally:
            self._asking = None
            printer.end()
            print()
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        if self.manner.verbose:
            print_statistics(answer, self.session.load_time, sys.stderr)
            print()

    def _clear(self, words: list[str]) -> None:
        self.messages = []
        print("Cleared session context")

    def _voice(self, words: list[str]) -> None:
        """/voice FILE [NAME]: answers are spoken into the file, by the voice; /voice off: no longer."""
        voices = self.session.info.voices
        if not voices:
            print("This model does not speak.")
        elif words == ["off"]:
            self.manner.speak = None
            print("Answers are no longer spoken.")
        elif words:
            check(Path(words[0]))
            self.manner.speak, self.manner.voice = Path(words[0]), words[1] if len(words) > 1 else None
            print(f"Answers are spoken into {words[0]}.")
        else:
            print(f"Usage: /voice <file> [name]; /voice off. Voices: {', '.join(voices)}")

    def _help(self, words: list[str]) -> None:
        topic = words[0].removeprefix("/") if words else ""
        print({"set": _SET_HELP, "show": _SHOW_HELP, "shortcuts": _SHORTCUTS}.get(topic, _HELP))

    def _set(self, words: list[str]) -> None:
        manner = self.manner
        match words:
            case ["parameter", name, *values] if values:
                manner.set_parameter(name, values)
                print(f"Set parameter '{name}' to '{', '.join(values)}'")
            case ["parameter", *_]:
                print("Usage: /set parameter <name> <value>")
            case ["system", *text]:
                manner.system = " ".join(text).strip('"')
                print("Set system message.")
            case ["history"]:
                self._prompt = self._new_prompt(self._file)
            case ["nohistory"]:
                self._prompt = self._new_prompt(InMemoryHistory())
            case ["wordwrap" | "nowordwrap" as word]:
                manner.wrap = word == "wordwrap"
                print(f"Set '{word}' mode.")
            case ["verbose" | "quiet" as word]:
                manner.verbose = word == "verbose"
                print(f"Set '{word}' mode.")
            case ["format", *schema] if schema:
                manner.set_format(" ".join(schema))
                print("Set format.")
            case ["noformat"]:
                manner.form = None
                print("Disabled format.")
            case ["think"]:
                manner.set_think("true")
                print("Set 'think' mode.")
            case ["think", level]:
                manner.set_think(level)
                print(f"Set 'think' mode to '{level}'.")
            case ["nothink"]:
                manner.set_think("false")
                print("Set 'nothink' mode.")
            case [] | ["?" | "help"]:
                print(_SET_HELP)
            case _:
                print(f"Unknown command '/set {words[0]}'. Type /? for help")

    def _show(self, words: list[str]) -> None:
        match words:
            case ["info"]:
                print(self._info())
            case ["parameters"]:
                print(self._parameters())
            case ["system"]:
                print(self.manner.system or "No system message was specified for this model.")
            case ["template"]:
                print(
                    self.session.processor.templates.source
                    or "No prompt template was specified for this model."
                )
            case [] | ["?" | "help"]:
                print(_SHOW_HELP)
            case _:
                print(f"Unknown command '/show {words[0]}'. Type /? for help")

    def _info(self) -> str:
        info, kind = self.session.info, self.session.processor.kind
        rows = {
            "architecture": ", ".join(info.architectures),
            "context length": f"{info.context:,}",
            "vocabulary": f"{info.vocab_size:,}",
            "precision": info.dtype,
            "device": info.device,
            **{name.replace("_", " "): value for name, value in kind.items()},
        }
        lines = ["  Model", *(f"    {name:<20}{value}" for name, value in rows.items())]
        return "\n".join(lines) + "\n\n" + info.plan + "\n"

    def _parameters(self) -> str:
        def lines(values: dict[str, Any]) -> list[str]:
            return [f"  {name:<20}{json.dumps(value)}" for name, value in values.items()] or ["  none"]

        model = self.session.processor.generation_defaults
        return "\n".join(
            [
                "Model defined parameters:",
                *lines(model),
                "",
                "User defined parameters:",
                *lines(self.manner.parameters),
                "",
            ]
        )

    def _new_prompt(self, history: History) -> PromptSession[str]:
        return PromptSession(history=history, enable_history_search=True)
