"""Parses YAML text to a tree of nodes with lines and columns, within limits.

Only YAML's syntax is parsed, not its types: the value of a scalar is its text. The tree is built from the parser's
events. PyYAML's own composer is slower and crashes on a few kilobytes of nested brackets. Here, every limit is checked
before the tree grows.
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
    "Loader",
    "Mapping",
    "Node",
    "PythonLoader",
    "Scalar",
    "Sequence",
    "locate",
    "read_tree",
    "release_tree",
]


class PythonLoader(yaml.SafeLoader):
    """PyYAML's parser in Python. Unlike its base class, it rejects escapes of invalid characters and does not crash."""

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> list[str]:
        try:
            chunks: list[str] = super().scan_flow_scalar_non_spaces(double, start_mark)
            "".join(chunks).encode()
        except (ValueError, OverflowError):
            chunks = []
        else:
            return chunks
        raise yaml.scanner.ScannerError(None, start_mark, None, self.get_mark())


# The C parser is about seven times as fast. Without libyaml, PyYAML does not have it.
Loader: Any = getattr(yaml, "CSafeLoader", PythonLoader)

_UNKNOWN_ALIAS = "an alias (*) to an anchor (&) that is not defined before it; a text that begins with * needs quotes"

# libyaml compares each directive with all before it: a document of directives would hold the GIL for ten seconds.
_TAG_DIRECTIVE = re.compile("(?:\\A|[\r\n\x85\u2028\u2029])\ufeff?%TAG")


class Scalar:
    """A text.

    Attributes:
        value: The text, without YAML's quotes, escapes and folded lines.
        plain: It has no quotes, block indicator or tag. Only a plain scalar can be null or missing.
        literal: It is a literal block (``|``), whose lines are lines of the text.
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
        """Whether the value is missing: nothing follows the key or the ``-``."""
        return self.plain and not self.value

    @property
    def is_null(self) -> bool:
        """Whether it is ``null`` or ``~``, without quotes."""
        return self.plain and self.value in ("null", "~")


class Sequence:
    """A list of nodes."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.items: list[Node] = []


class Mapping:
    """Pairs of nodes. `items` has them in the text's order, duplicates included: key, value, key, value, and so on."""

    __slots__ = ("column", "items", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.items: list[Node] = []

    def pairs(self) -> zip[tuple[Node, Node]]:
        """Returns the keys, each with its value."""
        items = iter(self.items)
        return zip(items, items, strict=True)


Node: TypeAlias = Scalar | Sequence | Mapping


@dataclass(slots=True)
class _Open:
    """A collection whose end event is still to come.

    Attributes:
        node: The collection so far.
        anchor: Its anchor's name; None: it has no anchor.
        nodes_before: The number of nodes before it.
        characters_before: The number of characters before it.
        deepest: The depth of its deepest collection.
        position: Where it begins in the text.
        flow: It is written with brackets.
    """

    node: Sequence | Mapping
    anchor: str | None
    nodes_before: int
    characters_before: int
    deepest: int
    position: int
    flow: bool


def release_tree(root: Node | None) -> None:
    """Frees a tree that is no longer used, one collection at a time.

    Freed at once, a large tree would hold the GIL for 10 ms, and other threads would wait.
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
    """Parses one YAML document.

    An alias is replaced by the node itself, not by a copy, so one node may be in several places. There are no cycles. A
    byte-order mark is ignored.

    Args:
        text: YAML.
        source: Where the text was read from, for the error's message.
        max_bytes: How large the text may be, as UTF-8.
        line_offset: The number of lines before the text in its file. Lines are reported as those of the file.
        column_offset: The number of columns before each of its lines there.

    Returns:
        The root; None: there is no document.

    Raises:
        DocumentError: The text is too large, is not YAML, has several documents, or exceeds `MAX_DEPTH`, `MAX_NODES` or
            `MAX_EXPANDED_CHARACTERS`. It has one diagnostic, because YAML cannot be parsed after its first error.
    """
    try:
        text = _check_text(text, max_bytes)
        return _parse(text, line_offset, column_offset)
    except _TreeError as error:
        diagnostic = error.diagnostic
    if diagnostic.line:
        diagnostic = replace(diagnostic, line=diagnostic.line + line_offset, column=diagnostic.column + column_offset)
    # Raised outside the handler, so that no traceback leads to the parser's own error, which quotes the text.
    raise DocumentError([diagnostic], source=source)


class _TreeError(Exception):
    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.diagnostic = Diagnostic(what, line=line, column=column)
        super().__init__(what)


def _check_text(text: str, max_bytes: int) -> str:
    """Returns the text without a byte-order mark, if it may be parsed."""
    if len(text) > max_bytes or (not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > max_bytes):
        raise _TreeError(f"larger than {max_bytes:,} bytes, which is more than a ConfigMap can hold")
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _TreeError(yaml_errors.SURROGATE, *locate(text, error.start)) from None
    # Without this check, the pattern would hold the GIL for 20 ms on a large text.
    directive = _TAG_DIRECTIVE.search(text) if "%TAG" in text else None
    if directive:
        raise _TreeError("a %TAG directive; only !!str is allowed, without one", *locate(text, directive.end() - 4))
    return text


def _parse(text: str, line_offset: int, column_offset: int) -> Node | None:
    builder = _Builder(text, line_offset, column_offset)
    try:
        return builder.build()
    except (_TreeError, yaml.YAMLError) as error:
        # The parser in Python reports a control character first, libyaml only when it comes near it.
        control = yaml_errors.find_control_character(text)
        if control:
            what, position = control
            raise _TreeError(what, *locate(text, position)) from None
        if isinstance(error, yaml.YAMLError):
            raise _explain(builder.find_stop(error), builder.levels_left) from None
        raise


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A node with an anchor, and what each alias to it adds to the document.

    Attributes:
        node: The node.
        nodes: The number of nodes in it, with itself.
        characters: The number of characters of their texts.
        height: The number of levels of collections in it, with itself; 0: a scalar.
    """

    node: Node
    nodes: int
    characters: int
    height: int


class _Builder:
    """Builds a tree from the parser's events, and counts its nodes and characters with all aliases expanded."""

    def __init__(self, text: str, line_offset: int, column_offset: int) -> None:
        self._text = text
        self._line_offset = line_offset
        self._column_offset = column_offset
        # The next node is added to `_items`: the items of the open collection, or the roots.
        self._roots: list[Node] = []
        self._items = self._roots
        self._anchors: dict[str, _Anchored] = {}
        self._unfinished: list[_Open] = []
        self._closed: _Open | None = None
        self._nodes = 0
        self._characters = 0
        self._documents = 0
        self._event: Any = None  # the stubs only have the base class

    @property
    def levels_left(self) -> int:
        """The number of levels that may still be opened."""
        return MAX_DEPTH - len(self._unfinished)

    def build(self) -> Node | None:
        """Parses all of the text, and returns the root; None: there is no document.

        Raises:
            yaml.YAMLError: The text is not YAML.
            _TreeError: The text exceeds a limit, or uses a part of YAML that is not allowed.
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
        # The same as yaml.parse, without its generator, which would take a tenth of the time.
        for event in iter(Loader(self._text).get_event, None):
            self._event = event
            taken_by = take.get(type(event))
            if taken_by is None:
                continue
            mark = event.start_mark
            if mark.index < length:
                taken_by(event, mark.line + 1, mark.column + 1)
            else:
                # libyaml reports the end of the text one line too low if the last line has no line break.
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
        """Returns where and in what the parser stopped."""
        text, event = self._text, self._event
        context, problem = (getattr(error, name, None) for name in ("context_mark", "problem_mark"))
        position = min(problem.index, len(text)) if problem else 0
        in_scanner = isinstance(error, yaml.scanner.ScannerError)
        has_ended = isinstance(event, yaml.CollectionEndEvent) or (
            isinstance(event, yaml.DocumentEndEvent) and not event.explicit
        )
        around = (_describe(text, each) for each in reversed(self._unfinished))
        return yaml_errors.Stop(
            text,
            position,
            token_start=context.index if context and context.index < position and in_scanner else None,
            in_scanner=in_scanner,
            last_event=(event.start_mark.index, event.end_mark.index) if event else (0, 0),
            # In [a: b], the pair is a mapping without its own brackets.
            innermost=next(
                (each for each in around if not each.flow or text.startswith(("[", "{"), each.position)), None
            ),
            just_closed=_describe(text, self._closed) if self._closed and has_ended else None,
            line_offset=self._line_offset,
            column_offset=self._column_offset,
        )


def _describe(text: str, collection: _Open) -> yaml_errors.Collection:
    node = collection.node
    is_list = isinstance(node, Sequence)
    last = node.items[-1 if is_list else (len(node.items) - 1) // 2 * 2] if node.items else node
    position = yaml_errors.skip_properties(text, collection.position)
    return yaml_errors.Collection(position, collection.flow, is_list, last.line, last.column)


def _explain(stop: yaml_errors.Stop, levels: int) -> _TreeError:
    """Returns the error for a stop, where `levels` more levels may be opened."""
    # The parser reads ahead, and libyaml has its own limit of levels: ours must be reported first.
    flow = stop.innermost is not None and stop.innermost.flow
    deep = yaml_errors.find_too_deep(stop.text, stop.last_event[1], stop.position, levels=levels, within_brackets=flow)
    if deep is not None:
        return _too_deep(*locate(stop.text, deep))
    what, position = yaml_errors.explain(stop)
    return _TreeError(what, *locate(stop.text, position))


def _tagged(line: int, column: int) -> _TreeError:
    return _TreeError(yaml_errors.EXPLICIT_TAG, line, column)


def _too_deep(line: int, column: int) -> _TreeError:
    return _TreeError(f"nested more than {MAX_DEPTH} levels deep", line, column)
