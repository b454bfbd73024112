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

from ..errors import Diagnostic, DocumentError
from . import yaml_errors
from .limits import MAX_BYTES, MAX_DEPTH, MAX_EXPANDED_CHARACTERS, MAX_NODES
from .yaml_errors import locate

__all__ = [
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "locate",
    "read_tree",
    "release_tree",
]


class _PythonLoader(yaml.SafeLoader):
    """PyYAML's parser in Python, which alone would let any number be an escape's character, or crash on it."""

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> list[str]:
        try:
            chunks: list[str] = super().scan_flow_scalar_non_spaces(double, start_mark)
            "".join(chunks).encode()
        except (ValueError, OverflowError):
            chunks = []
        else:
            return chunks
        raise yaml.scanner.ScannerError(None, start_mark, None, self.get_mark())


# The C parser is about seven times as fast; a PyYAML built without libyaml still works.
_Loader: Any = getattr(yaml, "CSafeLoader", _PythonLoader)

_UNKNOWN_ALIAS = "an alias (*) without an anchor (&) of that name before it; a text that begins with * needs quotes"

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
    characters_before: int
    deepest: int
    position: int
    flow: bool


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
        DocumentError: The text is too large, is no YAML, holds several documents, or goes past `MAX_DEPTH`,
            `MAX_NODES` or `MAX_EXPANDED_CHARACTERS`. It has one diagnostic, for YAML cannot be read past its first
            error.
    """
    try:
        text = _bounded(text, max_bytes)
        return _read(text, line_offset, column_offset)
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
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _TreeError(yaml_errors.SURROGATE, *locate(text, error.start)) from None
    # The pattern alone would take 20 ms of a large text, in one step that no other thread can interrupt.
    directive = _TAG_DIRECTIVE.search(text) if "%TAG" in text else None
    if directive:
        raise _TreeError("a %TAG directive; only !!str is allowed, without one", *locate(text, directive.end() - 4))
    return text


def _read(text: str, line_offset: int, column_offset: int) -> Node | None:
    try:
        return _build(text, line_offset, column_offset)
    except _TreeError:
        # libyaml tells of a control character when it comes near it, the parser in Python before all else.
        control = yaml_errors.find_control_character(text)
        if not control:
            raise
        what, position = control
    raise _TreeError(what, *locate(text, position))


def _build(text: str, line_offset: int, column_offset: int) -> Node | None:
    builder = _Builder(text, line_offset, column_offset)
    try:
        return builder.build()
    except yaml.YAMLError as error:
        stop = builder.find_stop(error)
        levels = builder.levels_left
    raise _explain(replace(stop, line_offset=line_offset, column_offset=column_offset), levels)


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A node that aliases may stand for, and what each of them adds.

    Attributes:
        node: The node.
        nodes: How many nodes it is.
        characters: How many characters of text they have.
        height: How many levels there are below it.
    """

    node: Node
    nodes: int
    characters: int
    height: int


class _Builder:
    """Makes a tree of the parser's events, and counts what it comes to with its aliases expanded."""

    def __init__(self, text: str, line_offset: int, column_offset: int) -> None:
        self._text = text
        self._line_offset = line_offset
        self._column_offset = column_offset
        # Where the next node belongs: into the collection that is open, or here.
        self._roots: list[Node] = []
        self._items = self._roots
        self._anchors: dict[str, _Anchored] = {}
        self._unfinished: list[_Open] = []
        self._closed: _Open | None = None
        self._nodes = 0
        self._characters = 0
        self._documents = 0
        self._event: Any = None  # the stubs know the base class alone

    @property
    def levels_left(self) -> int:
        """How many more levels may be opened."""
        return MAX_DEPTH - len(self._unfinished)

    def build(self) -> Node | None:
        """Reads all of the text.

        Raises:
            yaml.YAMLError: It is no YAML.
            _TreeError: It goes past a limit, or has what documents may not have.
        """
        take = {
            yaml.ScalarEvent: self._take_scalar,
            yaml.MappingStartEvent: self._begin_collection,
            yaml.SequenceStartEvent: self._begin_collection,
            yaml.MappingEndEvent: self._end_collection,
            yaml.SequenceEndEvent: self._end_collection,
            yaml.AliasEvent: self._take_alias,
            yaml.DocumentStartEvent: self._begin_document,
        }
        length = len(self._text)
        end = locate(self._text, length)
        # As yaml.parse does, but without a generator in between, which would be a tenth of it.
        for event in iter(_Loader(self._text).get_event, None):
            self._event = event
            taken_by = take.get(type(event))
            if taken_by is None:
                continue
            mark = event.start_mark
            if mark.index < length:
                taken_by(event, mark.line + 1, mark.column + 1)
            else:
                # libyaml takes the end of a text for the end of its last line, and points to a line behind it.
                taken_by(event, *end)
        return self._roots[-1] if self._roots else None

    def _take_scalar(self, event: Any, line: int, column: int) -> None:
        tag = event.tag
        if tag is not None and tag != "tag:yaml.org,2002:str":
            raise _tagged(line, column)
        value = event.value
        plain = event.implicit[0] and tag is None
        node = Scalar(value, line + self._line_offset, column + self._column_offset, plain, event.style == "|")
        self._nodes += 1
        self._characters += len(value)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(node, 1, len(value), 0)
        self._add(node, line, column)

    def _begin_collection(self, event: Any, line: int, column: int) -> None:
        if event.tag is not None:
            raise _tagged(line, column)
        depth = len(self._unfinished) + 1
        if depth > MAX_DEPTH:
            raise _too_deep(line, column)
        collection = Mapping if type(event) is yaml.MappingStartEvent else Sequence
        node = collection(line + self._line_offset, column + self._column_offset)
        position = event.start_mark.index
        self._unfinished.append(
            _Open(node, event.anchor, self._nodes, self._characters, depth, position, event.flow_style)
        )
        self._items = node.items
        self._nodes += 1

    def _end_collection(self, _: Any, line: int, column: int) -> None:
        self._closed = closed = self._unfinished.pop()
        self._items = self._unfinished[-1].node.items if self._unfinished else self._roots
        if closed.anchor is not None:
            self._anchors[closed.anchor] = _Anchored(
                closed.node,
                self._nodes - closed.nodes_before,
                self._characters - closed.characters_before,
                closed.deepest - len(self._unfinished),
            )
        self._note_depth(closed.deepest)
        self._add(closed.node, line, column)

    def _take_alias(self, event: Any, line: int, column: int) -> None:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise _TreeError(_UNKNOWN_ALIAS, line, column)
        depth = len(self._unfinished) + anchored.height
        if depth > MAX_DEPTH:
            raise _too_deep(line, column)
        self._note_depth(depth)
        self._nodes += anchored.nodes
        self._characters += anchored.characters
        if self._characters > MAX_EXPANDED_CHARACTERS:
            what = f"more than {MAX_EXPANDED_CHARACTERS:,} characters with its aliases expanded"
            raise _TreeError(what, line, column)
        self._add(anchored.node, line, column)

    def _begin_document(self, _: Any, line: int, column: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _TreeError("a second YAML document begins here; keep everything in one", line, column)

    def _note_depth(self, depth: int) -> None:
        if self._unfinished and depth > self._unfinished[-1].deepest:
            self._unfinished[-1].deepest = depth

    def _add(self, node: Node, line: int, column: int) -> None:
        if self._nodes > MAX_NODES:
            raise _TreeError(f"more than {MAX_NODES:,} nodes with its aliases expanded", line, column)
        self._items.append(node)

    def find_stop(self, error: yaml.YAMLError) -> yaml_errors.Stop:
        """Where the parser stopped, from its error and from its last event, if there was one."""
        text, event = self._text, self._event
        begun, stopped = (getattr(error, name, None) for name in ("context_mark", "problem_mark"))
        position = min(stopped.index, len(text)) if stopped else 0
        amid_words = isinstance(error, yaml.scanner.ScannerError)
        has_ended = isinstance(event, yaml.CollectionEndEvent) or (
            isinstance(event, yaml.DocumentEndEvent) and not event.explicit
        )
        around = (_describe(text, each) for each in reversed(self._unfinished))
        return yaml_errors.Stop(
            text,
            position,
            begun=begun.index if begun and begun.index < position and amid_words else None,
            amid_words=amid_words,
            latest=(event.start_mark.index, event.end_mark.index) if event else (0, 0),
            # The pair in [a: b] is a mapping without brackets of its own.
            innermost=next(
                (each for each in around if not each.flow or text.startswith(("[", "{"), each.position)), None
            ),
            ended=_describe(text, self._closed) if self._closed and has_ended else None,
        )


def _describe(text: str, collection: _Open) -> yaml_errors.Collection:
    node = collection.node
    is_list = isinstance(node, Sequence)
    # The last item, or the last key.
    latest = node.items[-1 if is_list else (len(node.items) - 1) // 2 * 2] if node.items else node
    position = yaml_errors.skip_properties(text, collection.position)
    return yaml_errors.Collection(position, collection.flow, is_list, latest.line, latest.column)


def _explain(stop: yaml_errors.Stop, levels: int) -> _TreeError:
    """What is said of a text in which so many more levels may be opened."""
    # A parser looks ahead, and libyaml has a bound of its own, which must not be met before ours.
    flow = stop.innermost is not None and stop.innermost.flow
    deep = yaml_errors.find_too_deep(stop.text, stop.latest[1], stop.position, levels=levels, within_brackets=flow)
    if deep is not None:
        return _too_deep(*locate(stop.text, deep))
    what, position = yaml_errors.explain(stop)
    return _TreeError(what, *locate(stop.text, position))


def _tagged(line: int, column: int) -> _TreeError:
    return _TreeError(yaml_errors.EXPLICIT_TAG, line, column)


def _too_deep(line: int, column: int) -> _TreeError:
    return _TreeError(f"nested more than {MAX_DEPTH} levels deep", line, column)
