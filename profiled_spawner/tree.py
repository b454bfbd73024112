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

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Mapping", "Node", "Scalar", "Sequence", "read_tree", "release_tree"]

MAX_BYTES = 2**20
"""What a ConfigMap can hold: https://kubernetes.io/docs/concepts/configuration/configmap/"""
MAX_DEPTH = 50
MAX_NODES = 250_000
"""Nodes of a document, counting those behind an alias each time that it is used."""

# The C parser is about seven times as fast; a PyYAML built without libyaml still works.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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
        return _build(_bounded(text, max_bytes), line_offset + 1, column_offset + 1)
    except yaml.YAMLError as error:
        diagnostic = _explain(error, text, line_offset + 1, column_offset + 1)
    except _TreeError as refusal:
        diagnostic = refusal.diagnostic
    if diagnostic.line:
        diagnostic = replace(diagnostic, line=diagnostic.line + line_offset, column=diagnostic.column + column_offset)
    # Outside the handlers, so that no traceback leads to YAML's own error, which quotes the text.
    raise DocumentError([diagnostic], source=source)


class _TreeError(Exception):
    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.diagnostic = Diagnostic(what, line=line, column=column)
        super().__init__(what)


def _bounded(text: str, max_bytes: int) -> str:
    if len(text) > max_bytes or (not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > max_bytes):
        raise _TreeError(f"larger than {max_bytes:,} bytes, which is more than a ConfigMap can hold")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what, place = "half of a surrogate pair, which is no Unicode text", _place(text, error.start)
        raise _TreeError(what, *place) from None
    # The pattern alone would take 20 ms of a large text, in one step that no other thread can interrupt.
    directive = _TAG_DIRECTIVE.search(text) if "%TAG" in text else None
    if directive:
        raise _TreeError("a %TAG directive; only !!str is allowed, without one", *_place(text, directive.end() - 4))
    return text.removeprefix("\ufeff")


def _build(text: str, first_line: int, first_column: int) -> Node | None:
    root: Node | None = None
    anchors: dict[str, tuple[Node, int, int]] = {}  # node, how many nodes it is, how deep it goes
    unfinished: list[_Open] = []
    count = 0
    documents = 0
    event: Any  # the stubs know the base class alone
    # As yaml.parse does, but without a generator in between, which would be a tenth of it.
    for event in iter(_Loader(text).get_event, None):
        kind = type(event)
        mark = event.start_mark
        if kind is yaml.ScalarEvent:
            tag = event.tag
            plain = event.implicit[0] and tag is None
            if tag is not None and tag != "tag:yaml.org,2002:str":
                raise _tagged(mark)
            anchor = event.anchor
            node: Node = Scalar(
                event.value, mark.line + first_line, mark.column + first_column, plain, event.style == "|"
            )
            count += 1
            if anchor is not None:
                anchors[anchor] = (node, 1, 0)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if event.tag is not None:
                raise _tagged(mark)
            depth = len(unfinished) + 1
            if depth > MAX_DEPTH:
                raise _too_deep(mark)
            collection = Mapping if kind is yaml.MappingStartEvent else Sequence
            node = collection(mark.line + first_line, mark.column + first_column)
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
                    mark.line + 1,
                    mark.column + 1,
                )
            node, nodes, height = anchors[event.anchor]
            depth = len(unfinished) + height
            if depth > MAX_DEPTH:
                raise _too_deep(mark)
            if unfinished and depth > unfinished[-1].deepest:
                unfinished[-1].deepest = depth
            count += nodes
        else:
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _TreeError(
                        "a second YAML document begins here; keep everything in one",
                        mark.line + 1,
                        mark.column + 1,
                    )
            continue
        if count > MAX_NODES:
            raise _TreeError(f"more than {MAX_NODES:,} nodes with its aliases expanded", mark.line + 1, mark.column + 1)
        if unfinished:
            unfinished[-1].node.items.append(node)
        else:
            root = node
    return root


def _tagged(mark: yaml.Mark) -> _TreeError:
    return _TreeError(
        "an explicit tag (!); text stays text here without one, and only !!str is allowed",
        mark.line + 1,
        mark.column + 1,
    )


def _too_deep(mark: yaml.Mark) -> _TreeError:
    return _TreeError(f"nested more than {MAX_DEPTH} levels deep", mark.line + 1, mark.column + 1)


def _explain(error: yaml.YAMLError, text: str, first_line: int, first_column: int) -> Diagnostic:
    """Says what the parser said, without the lines that it quotes."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        # A ReaderError: a character that YAML allows nowhere. libyaml counts its position in bytes of UTF-8.
        text = text.removeprefix("\ufeff")
        before = text.encode()[: getattr(error, "position", 0) or 0].decode(errors="ignore")
        line, column = _place(text, len(before))
        return Diagnostic(
            "a control character, which YAML allows nowhere; in double quotes, write its escape",
            line=line,
            column=column,
        )
    problem = getattr(error, "problem", None) or "not YAML"
    context = getattr(error, "context", None)
    begun = getattr(error, "context_mark", None)
    what = f"{context}: {problem}" if context else problem
    if context and begun and begun.line != mark.line:
        what += f" (it began at line {begun.line + first_line}, column {begun.column + first_column})"
    hint = _hint(problem, context or "", _character(text, mark))
    # libyaml takes the end of a text for the end of its last line, and points behind it.
    lines = (text.removeprefix("\ufeff") + ".").splitlines()
    line, column = min((mark.line + 1, mark.column + 1), (len(lines), len(lines[-1])))
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


def _character(text: str, mark: yaml.Mark) -> str:
    lines = text.removeprefix("\ufeff").splitlines()
    if mark.line >= len(lines):
        return ""
    return lines[mark.line][mark.column : mark.column + 1]


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
