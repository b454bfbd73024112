"""YAML text to a tree of nodes that know where they stand, within bounds.

This is YAML's syntax and nothing of its types: a scalar is its own characters, with a note whether it was
written plainly. The tree is built from the parser's events, because composing one first would cost more and
crash on a few kilobytes of nested brackets: here every bound holds before anything grows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import yaml

from .errors import Diagnostic, DocumentError

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "locate",
    "read_tree",
    "release_tree",
]

MAX_BYTES = 2**20
"""What a ConfigMap can hold: https://kubernetes.io/docs/concepts/configuration/configmap/"""
MAX_DEPTH = 50
MAX_NODES = 250_000
"""Nodes of a document, counting those behind an alias each time that it is used."""

# The C parser is about seven times as fast; a PyYAML built without libyaml still works.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_LINE_ENDS = ("\n", "\r", "\x85", "\u2028", "\u2029")

# libyaml compares each with all that precede it: a document of them would hold the interpreter for ten seconds.
_TAG_DIRECTIVE = re.compile("(?:\\A|[\r\n\x85\u2028\u2029])\ufeff?%TAG")


class Scalar:
    """A text.

    Attributes:
        value: Its characters, after YAML's quoting and folding.
        plain: Written without quotes, block indicator or tag: only such a one can be a ``null`` or nothing at all.
        literal: Written as a literal block (``|``), whose lines are lines of the text.
    """

    __slots__ = ("column", "line", "literal", "plain", "value")

    def __init__(self, value: str, line: int, column: int, plain: bool, literal: bool) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.plain = plain
        self.literal = literal

    @property
    def is_empty(self) -> bool:
        """Nothing was written where a value belongs."""
        return self.plain and not self.value

    @property
    def is_null(self) -> bool:
        """A plain ``null`` or ``~``."""
        return self.plain and self.value in ("null", "~")


class Sequence:
    """A list of nodes."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.items: list[Node] = []


class Mapping:
    """Pairs of nodes, in the text's order, duplicates included: key, value, key, value, and so on."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.items: list[Node] = []

    def pairs(self) -> zip[tuple[Node, Node]]:
        """The keys, each with its value."""
        items = iter(self.items)
        return zip(items, items, strict=True)


Node: TypeAlias = Scalar | Sequence | Mapping


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen."""

    node: Sequence | Mapping
    anchor: str | None
    nodes_before: int
    deepest: int


def release_tree(root: Node | None) -> None:
    """Lets go of a tree that nobody needs any more, collection by collection.

    Let go of as one, a large tree holds the interpreter for 10 ms, and with it whatever other threads do.
    """
    left = [root]
    while left:
        node = left.pop()
        if isinstance(node, Sequence | Mapping):
            left += [item for item in node.items if type(item) is not Scalar]
            node.items.clear()


def read_tree(
    text: str, *, source: str = "", max_bytes: int = MAX_BYTES, line_offset: int = 0, column_offset: int = 0
) -> Node | None:
    """Reads one YAML document.

    Aliases stand for the very node that they name, so a node may be found in several places; there are no
    cycles. A byte-order mark is passed over.

    Args:
        text: YAML.
        source: What the text was read from, for the error's message.
        max_bytes: How large it may be.
        line_offset: Lines before the text in the file that all places are to be told in.
        column_offset: Columns before each of its lines there.

    Returns:
        The root, or None where there is no document at all.

    Raises:
        DocumentError: The text is too large, is no YAML, holds several documents, or goes past `MAX_DEPTH` or
            `MAX_NODES`. It has one diagnostic, for YAML cannot be read past its first error.
    """
    try:
        text = _bounded(text, max_bytes)
        return _build(text, line_offset, column_offset)
    except yaml.YAMLError as error:
        diagnostic = _explain(error, text, line_offset, column_offset)
    except _TreeError as refusal:
        diagnostic = refusal.diagnostic
    if diagnostic.line:
        diagnostic = replace(diagnostic, line=diagnostic.line + line_offset, column=diagnostic.column + column_offset)
    # Outside the handlers, so that no traceback leads to YAML's own error, which quotes the text.
    raise DocumentError([diagnostic], source=source)


def locate(text: str, position: int) -> tuple[int, int]:
    """The line and the column, from 1, of a position in a text; lines end where YAML's do."""
    before = text[:position]
    ends = sum(map(before.count, _LINE_ENDS)) - before.count("\r\n")
    return ends + 1, position - max(map(before.rfind, _LINE_ENDS))


class _TreeError(Exception):
    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.diagnostic = Diagnostic(what, line=line, column=column)
        super().__init__(what)


def _bounded(text: str, max_bytes: int) -> str:
    if len(text) > max_bytes or (not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > max_bytes):
        raise _TreeError(f"larger than {max_bytes:,} bytes, which is more than a ConfigMap can hold")
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what, place = "half of a surrogate pair, which is no Unicode text", locate(text, error.start)
        raise _TreeError(what, *place) from None
    # The pattern alone would take 20 ms of a large text, in one step that no other thread can interrupt.
    directive = _TAG_DIRECTIVE.search(text) if "%TAG" in text else None
    if directive:
        raise _TreeError("a %TAG directive; only !!str is allowed, without one", *locate(text, directive.end() - 4))
    return text


def _build(text: str, line_offset: int, column_offset: int) -> Node | None:
    root: Node | None = None
    anchors: dict[str, tuple[Node, int, int]] = {}  # node, how many nodes it is, how deep it goes
    unfinished: list[_Open] = []
    count = 0
    documents = 0
    length = len(text)
    end = locate(text, length)
    event: Any  # the stubs know the base class alone
    # As yaml.parse does, but without a generator in between, which would be a tenth of it.
    for event in iter(_Loader(text).get_event, None):
        kind = type(event)
        mark = event.start_mark
        line = mark.line + 1
        column = mark.column + 1
        if mark.index >= length:
            # libyaml takes the end of a text for the end of its last line, and points to a line behind it.
            line, column = end
        if kind is yaml.ScalarEvent:
            tag = event.tag
            plain = event.implicit[0] and tag is None
            if tag is not None and tag != "tag:yaml.org,2002:str":
                raise _tagged(line, column)
            anchor = event.anchor
            node: Node = Scalar(event.value, line + line_offset, column + column_offset, plain, event.style == "|")
            count += 1
            if anchor is not None:
                anchors[anchor] = (node, 1, 0)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if event.tag is not None:
                raise _tagged(line, column)
            depth = len(unfinished) + 1
            if depth > MAX_DEPTH:
                raise _too_deep(line, column)
            collection = Mapping if kind is yaml.MappingStartEvent else Sequence
            node = collection(line + line_offset, column + column_offset)
            unfinished.append(_Open(node, event.anchor, count, depth))
            count += 1
            continue
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            closed = unfinished.pop()
            node = closed.node
            depth = len(unfinished)
            if closed.anchor is not None:
                anchors[closed.anchor] = (node, count - closed.nodes_before, closed.deepest - depth)
            if unfinished and closed.deepest > unfinished[-1].deepest:
                unfinished[-1].deepest = closed.deepest
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                raise _TreeError(
                    "an alias (*) without an anchor (&) of that name before it; a text that begins with * needs quotes",
                    line,
                    column,
                )
            node, nodes, height = anchors[event.anchor]
            depth = len(unfinished) + height
            if depth > MAX_DEPTH:
                raise _too_deep(line, column)
            if unfinished and depth > unfinished[-1].deepest:
                unfinished[-1].deepest = depth
            count += nodes
        else:
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _TreeError("a second YAML document begins here; keep everything in one", line, column)
            continue
        if count > MAX_NODES:
            raise _TreeError(f"more than {MAX_NODES:,} nodes with its aliases expanded", line, column)
        if unfinished:
            unfinished[-1].node.items.append(node)
        else:
            root = node
    return root


def _tagged(line: int, column: int) -> _TreeError:
    what = "an explicit tag (!); text stays text here without one, and only !!str is allowed"
    return _TreeError(what, line, column)


def _too_deep(line: int, column: int) -> _TreeError:
    return _TreeError(f"nested more than {MAX_DEPTH} levels deep", line, column)


def _explain(error: yaml.YAMLError, text: str, line_offset: int, column_offset: int) -> Diagnostic:
    """Says what the parser said, without the lines that it quotes."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        # A ReaderError: a character that YAML allows nowhere. libyaml counts its position in bytes of UTF-8.
        before = text.encode()[: getattr(error, "position", 0) or 0].decode(errors="ignore")
        line, column = locate(text, len(before))
        return Diagnostic(
            "a control character, which YAML allows nowhere; in double quotes, write its escape",
            line=line,
            column=column,
        )
    line, column = locate(text, mark.index)
    problem = getattr(error, "problem", None) or "not YAML"
    context = getattr(error, "context", None)
    begun = getattr(error, "context_mark", None)
    what = f"{context}: {problem}" if context else problem
    if context and begun:
        first_line, first_column = locate(text, begun.index)
        if first_line != line:
            what += f" (it began at line {first_line + line_offset}, column {first_column + column_offset})"
    hint = _hint(problem, context or "", text[mark.index : mark.index + 1])
    return Diagnostic(f"{what}; {hint}" if hint else what, line=line, column=column)


def _hint(problem: str, context: str, character: str) -> str:
    if "alias" in context:
        return 'a text that begins with * needs quotes: "*"'
    if "anchor" in context:
        return "a text that begins with & needs quotes"
    if "cannot start any token" in problem:
        return (
            "indent with spaces, not tabs" if character == "\t" else f"a text that begins with {character} needs quotes"
        )
    if "mapping values are not allowed" in problem:
        return "a text that holds ': ' needs quotes; or the indentation is off"
    if "escape character" in problem:
        return "a backslash is itself only in single quotes"
    if "tag" in problem:
        return "a text that begins with ! needs quotes"
    if context.startswith("while parsing a block"):
        return "the indentation is off"
    return ""
