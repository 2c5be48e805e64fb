"""A Go template's text as a tree, and what can be read off it without running it.

Which variables it uses decides what its model can do, as in Ollama; where it first writes `.Response` is where an
answer begins; what it writes around a message's calls and thoughts are the marks of the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gotpl.errors import TemplateError
from gotpl.parse import (
    ActionNode,
    BlockNode,
    CommandNode,
    FieldNode,
    IfNode,
    ListNode,
    ParenthesizedNode,
    ParserLimits,
    PipeNode,
    RangeNode,
    TemplateCallNode,
    TextNode,
    VariableNode,
    WithNode,
    parse_template,
)

from tutti.models.processor.gotemplate.functions import OLLAMA

_LIMITS = ParserLimits(max_source_bytes=512_000, max_tokens=50_000, max_nesting=60)

__all__ = ["Syntax", "TemplateError", "parse"]


@dataclass(frozen=True)
class Syntax:
    """A parsed template: what is run, and the named templates it may call."""

    source: str
    root: ListNode
    named: Mapping[str, ListNode]

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names of all fields and variables in it, in small letters: Ollama's `Vars`."""
        found: set[str] = set()
        for tree in (self.root, *self.named.values()):
            for node in _walk(tree):
                if isinstance(node, FieldNode | ParenthesizedNode):
                    found.update(node.fields)
                elif isinstance(node, VariableNode):
                    found.update((node.name, *node.fields))
        return frozenset(name.lower() for name in found)

    @cached_property
    def before_answer(self) -> Syntax:
        """The template up to the first `.Response`: what an answer is written behind."""
        return replace(self, root=_Cut().list(self.root))

    @property
    def call_tag(self) -> str:
        """The text that a message's tool calls begin with ("<tool_call>"); "" where they begin with the call's JSON."""
        branch = next((node for node in _walk(self.root) if _asks(node, "ToolCalls")), None)
        text = None if branch is None else _first_text(branch.body)
        return "" if text is None else text.strip().partition("{")[0].strip()

    @property
    def thought_tags(self) -> tuple[str, str]:
        """What stands before and behind a message's thought; "" each where it cannot be told."""
        for node in _walk(self.root):
            if isinstance(node, RangeNode) and _uses(node.pipeline, "Messages"):
                for around in _lists(node.body):
                    if any(
                        _uses(one.pipeline, "Thinking") for one in around.nodes if isinstance(one, ActionNode)
                    ):
                        first, last = around.nodes[0], around.nodes[-1]
                        return _stripped(first), _stripped(last)
        return "", ""


def parse(source: str) -> Syntax:
    """The tree of `source`. Raises TemplateError."""
    try:
        found = parse_template(source, limits=_LIMITS, functions=OLLAMA)
    except RecursionError as error:  # `else if` upon `else if`
        raise TemplateError("template: nested too deeply") from error
    named = {definition.name: definition.body for definition in found.definitions}
    for tree in (found.root, *named.values()):
        for node in _walk(tree):
            if isinstance(node, TemplateCallNode) and node.name not in named:
                raise TemplateError(f'template: undefined template specified: "{node.name}"')
    syntax = Syntax(source, found.root, named)
    if syntax.variables.isdisjoint(("messages", "response")):
        end = len(source.encode())
        response = FieldNode(("Response",), end, end)
        pipe = PipeNode((), False, (CommandNode((response,), end, end),), end, end)
        syntax = replace(syntax, root=ListNode((*found.root.nodes, ActionNode(pipe, end, end))))
    return syntax


def _walk(tree: Any) -> Iterator[Any]:
    """Every node below `tree`, in the order of the text; no recursion, since `else if` nests as deep as it is long."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(list(_children(node))))


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, ListNode):
        yield from node.nodes
    elif isinstance(node, PipeNode):
        yield from node.declarations
        yield from node.commands
    elif isinstance(node, CommandNode):
        yield from node.arguments
    elif isinstance(node, ActionNode | IfNode | WithNode | RangeNode | TemplateCallNode | BlockNode):
        if node.pipeline is not None:
            yield node.pipeline
        if isinstance(node, IfNode | WithNode | RangeNode):
            yield node.body
            if node.else_body is not None:
                yield node.else_body
    elif isinstance(node, ParenthesizedNode):
        yield node.pipeline


def _lists(tree: ListNode) -> Iterator[ListNode]:
    return (node for node in _walk(tree) if isinstance(node, ListNode) and node.nodes)


def _uses(tree: Any, field: str) -> bool:
    return any(isinstance(node, FieldNode | VariableNode) and field in node.fields for node in _walk(tree))


def _asks(node: Any, field: str) -> bool:
    return isinstance(node, IfNode) and _uses(node.pipeline, field)


def _stripped(node: Any) -> str:
    return node.text.strip() if isinstance(node, TextNode) else ""


def _first_text(tree: ListNode) -> str | None:
    """The first text of a list that stands before any value, looked for inside branches, too."""
    for node in tree.nodes:
        if isinstance(node, TextNode):
            if node.text.strip():
                return node.text
        elif isinstance(node, IfNode | WithNode | RangeNode):
            return _first_text(node.body)
        elif not (isinstance(node, ActionNode) and node.pipeline.declarations):
            return None
    return None


class _Cut:
    """Leaves out what follows the first action that writes `.Response`."""

    def __init__(self) -> None:
        self.done = False

    def list(self, tree: ListNode) -> ListNode:
        """The list up to there."""
        kept: list[Any] = []
        for node in tree.nodes:
            if self.done:
                break
            if isinstance(node, IfNode | WithNode | RangeNode):
                body = self.list(node.body)
                other = None if node.else_body is None else self._else(node.else_body)
                kept.append(replace(node, body=body, else_body=other))
            else:
                kept.append(node)
                self.done = isinstance(node, ActionNode) and _uses(node.pipeline, "Response")
        return ListNode(tuple(kept))

    def _else(self, tree: ListNode) -> ListNode:
        return tree if self.done else self.list(tree)
