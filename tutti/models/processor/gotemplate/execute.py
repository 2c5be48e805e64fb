"""Runs a parsed Go template over values, within a budget of steps and of signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gotpl.parse import (
    ActionNode,
    BlockNode,
    BoolNode,
    BreakNode,
    CharacterNode,
    CommandNode,
    ContinueNode,
    DotNode,
    FieldNode,
    IdentifierNode,
    IfNode,
    ListNode,
    NilNode,
    NumberNode,
    ParenthesizedNode,
    PipeNode,
    RangeNode,
    StringNode,
    TemplateCallNode,
    TextNode,
    VariableNode,
    WithNode,
)

from tutti.models.processor.gotemplate.functions import FUNCTIONS, FunctionFault
from tutti.models.processor.gotemplate.syntax import Syntax
from tutti.models.processor.gotemplate.values import Record, named, printed, truth

_DEEPEST = 100  # named templates inside each other
_UNIT = 256  # signs or items that cost as much as a step


class TemplateFault(Exception):
    """A template cannot be run on these values, or not within its budget; says where."""


@dataclass(slots=True)
class Budget:
    """How much a run may do: `steps` are nodes and function calls, `signs` the characters that it makes."""

    steps: int
    signs: int

    def step(self, size: int = 0) -> None:
        """Charge a step that handles `size` signs or items."""
        self.steps -= 1 + size // _UNIT
        if self.steps < 0:
            raise TemplateFault("it does not come to an end: it took too many steps")

    def made(self, text: str) -> None:
        """Charge a text that was made."""
        self.signs -= len(text)
        if self.signs < 0:
            raise TemplateFault("its text does not come to an end: it grew too long")


def execute(syntax: Syntax, data: Mapping[str, Any], budget: Budget) -> str:
    """The text that the template makes of `data`. Raises TemplateFault."""
    return _Run(syntax, budget).template(syntax.root, data)


class _Run:
    """One run. `_variables` is the stack of (name, value) that are in scope, the innermost last."""

    def __init__(self, syntax: Syntax, budget: Budget) -> None:
        self._syntax = syntax
        self._budget = budget
        self._texts: list[str] = []
        self._variables: list[list[Any]] = []
        self._depth = 0
        self._place = 0  # of what is being computed, in bytes of the source

    def template(self, root: ListNode, data: Any) -> str:
        """The text of the whole."""
        self._variables = [["$", data]]
        try:
            self._list(root, data)
        except (TemplateFault, FunctionFault) as error:
            line = self._syntax.source.encode()[: self._place].count(b"\n") + 1
            raise TemplateFault(f"line {line}: {error}") from error
        except RecursionError as error:
            raise TemplateFault("it is nested too deeply") from error
        return "".join(self._texts)

    def _list(self, tree: ListNode, dot: Any) -> str:
        """Writes a list's text; "break" or "continue" where that is what ended it, else ""."""
        for node in tree.nodes:
            self._budget.step()
            if isinstance(node, TextNode):
                self._write(node.text)
                continue
            self._place = node.start
            if isinstance(node, ActionNode):
                value = self._pipe(node.pipeline, dot)
                if not node.pipeline.declarations:
                    self._budget.step(_size(value))
                    self._write(printed(value))
            elif isinstance(node, IfNode | WithNode):
                ended = self._branch(node, dot)
                if ended:
                    return ended
            elif isinstance(node, RangeNode):
                self._range(node, dot)
            elif isinstance(node, TemplateCallNode | BlockNode):
                self._call(node, dot)
            elif isinstance(node, BreakNode):
                return "break"
            elif isinstance(node, ContinueNode):
                return "continue"
        return ""

    def _write(self, text: str) -> None:
        self._budget.made(text)
        self._texts.append(text)

    def _branch(self, node: IfNode | WithNode, dot: Any) -> str:
        scope = len(self._variables)
        value = self._pipe(node.pipeline, dot)
        ended = ""
        if truth(value):
            ended = self._list(node.body, value if isinstance(node, WithNode) else dot)
        elif node.else_body is not None:
            ended = self._list(node.else_body, dot)
        del self._variables[scope:]
        return ended

    def _range(self, node: RangeNode, dot: Any) -> None:
        scope = len(self._variables)
        pipe = node.pipeline
        value = self._commands(pipe, dot)
        declared = [variable.name for variable in pipe.declarations]
        count = 0
        for key, item in self._items(value):
            count += 1
            self._budget.step()
            given = (item,) if len(declared) == 1 else (key, item)
            for name, one in zip(declared, given, strict=False):
                if pipe.is_assignment:
                    self._assign(name, one)
                else:
                    self._variables.append([name, one])
            ended = self._list(node.body, item)
            del self._variables[scope:]
            if ended == "break":
                break
        if not count and node.else_body is not None:
            self._list(node.else_body, dot)
        del self._variables[scope:]

    def _items(self, value: Any) -> Any:
        """(key, item) of what is ranged over; a map's in the order of its keys."""
        if value is None:
            return ()
        if isinstance(value, Mapping):
            self._budget.step(len(value))
            return sorted(value.items(), key=lambda pair: str(pair[0]))
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        raise TemplateFault(f"range cannot go over a {named(value)}")

    def _call(self, node: TemplateCallNode | BlockNode, dot: Any) -> None:
        if self._depth == _DEEPEST:
            raise TemplateFault(f"templates call each other more than {_DEEPEST} deep")
        value = None if node.pipeline is None else self._pipe(node.pipeline, dot)
        outer, self._variables = self._variables, [["$", value]]
        self._depth += 1
        self._list(self._syntax.named[node.name], value)
        self._depth -= 1
        self._variables = outer

    # --- values -------------------------------------------------------------------------------------------------

    def _pipe(self, pipe: PipeNode, dot: Any) -> Any:
        value = self._commands(pipe, dot)
        for variable in pipe.declarations:
            if pipe.is_assignment:
                self._assign(variable.name, value)
            else:
                self._variables.append([variable.name, value])
        return value

    def _commands(self, pipe: PipeNode, dot: Any) -> Any:
        final: tuple[Any, ...] = ()
        for command in pipe.commands:
            final = (self._command(command, dot, final),)
        return final[0]

    def _command(self, command: CommandNode, dot: Any, final: tuple[Any, ...]) -> Any:
        first, *others = command.arguments
        self._budget.step()
        if isinstance(first, IdentifierNode):
            return self._function(first.name, others, dot, final)
        if others or final:
            raise TemplateFault("an argument is given to what is no function")
        return self._term(first, dot)

    def _function(self, name: str, arguments: Sequence[Any], dot: Any, final: tuple[Any, ...]) -> Any:
        if name in ("and", "or"):
            return self._choice(name, arguments, dot, final)
        values = [self._term(argument, dot) for argument in arguments] + list(final)
        function: Callable[..., Any] = FUNCTIONS[name]
        self._budget.step(sum(map(_size, values)))
        try:
            value = function(*values)
        except TypeError as error:
            raise TemplateFault(f"{name} does not take {len(values)} arguments of these kinds") from error
        except ValueError as error:
            raise TemplateFault(f"{name}: {error}") from error
        if isinstance(value, str):
            self._budget.made(value)
        return value

    def _choice(self, name: str, arguments: Sequence[Any], dot: Any, final: tuple[Any, ...]) -> Any:
        """`and`: the first that is not true; `or`: the first that is; else the last. The others are not computed."""
        value: Any = None
        for argument in arguments:
            value = self._term(argument, dot)
            if truth(value) == (name == "or"):
                return value
        if not arguments and not final:
            raise TemplateFault(f"{name} needs an argument")
        return final[0] if final else value

    def _term(self, term: Any, dot: Any) -> Any:
        if isinstance(term, FieldNode):
            return self._fields(dot, term.fields)
        if isinstance(term, VariableNode):
            return self._fields(self._variable(term.name)[1], term.fields)
        if isinstance(term, ParenthesizedNode):
            self._budget.step()
            return self._fields(self._pipe(term.pipeline, dot), term.fields)
        if isinstance(term, IdentifierNode):
            return self._function(term.name, (), dot, ())
        if isinstance(term, DotNode):
            return dot
        if isinstance(term, StringNode | BoolNode):
            return term.value
        if isinstance(term, CharacterNode):
            return ord(term.value)
        if isinstance(term, NumberNode):
            return _number(term.text)
        if isinstance(term, NilNode):
            return None
        raise TemplateFault("complex numbers are not for prompts")

    def _fields(self, value: Any, names: Sequence[str]) -> Any:
        for name in names:
            if isinstance(value, Mapping):
                value = value.get(name)
            elif isinstance(value, Record) and name in value.fields:
                value = value.fields[name]
            else:
                raise TemplateFault(f"a {named(value)} has no field {name}")
        return value

    def _variable(self, name: str) -> list[Any]:
        for entry in reversed(self._variables):
            if entry[0] == name:
                return entry
        raise TemplateFault(f"there is no variable {name}")

    def _assign(self, name: str, value: Any) -> None:
        self._variable(name)[1] = value


def _size(value: Any) -> int:
    """What handling a value costs, roughly: its signs, or its items."""
    return len(value) if isinstance(value, str | list | Mapping) else 0


def _number(text: str) -> int | float:
    plain = text.replace("_", "")
    if any(sign in plain.lower() for sign in ".p") or ("e" in plain.lower() and "x" not in plain.lower()):
        return float.fromhex(plain) if "x" in plain.lower() else float(plain)
    digits = plain.lstrip("+-")
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdigit()
    value = int(digits, 8 if octal else 0)
    return -value if plain.startswith("-") else value
