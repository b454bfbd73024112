"""Explains to the author of a text why it is not YAML.

PyYAML's two parsers describe the same mistake differently, and some of their messages quote the text. Nothing here uses
these messages: a mistake is recognized by the place where the parser stopped, and by the text there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = [
    "EXPLICIT_TAG",
    "SURROGATE",
    "Collection",
    "Stop",
    "explain",
    "find_control_character",
    "find_too_deep",
    "locate",
    "skip_properties",
]

EXPLICIT_TAG = "a tag (!), and only !!str is allowed; a text that begins with ! needs quotes"
SURROGATE = "half of a surrogate pair, which is not a character"

_GENERAL = "this is not YAML; look for a missing quote, bracket, comma or ':' before it"
_CONTROL = "a control character, which YAML does not allow; write its escape in double quotes"
_DIRECTIVE = "a line that begins with % is a directive; leave it out, or quote the text that begins with it"
_NO_COLON = "no ': ' after this key"
_ADD_COLON = "add it, or indent the line more if it continues the text above"
_LONG_KEY = "no ': ' within 1,024 characters; a key, or a text in its place, must not be longer"
# By the character where the scanner stopped, outside of a token.
_RESERVED = {
    **{character: f"a text that begins with {character} needs quotes" for character in "@`%|>"},
    "?": "a text that begins with '? ' needs quotes",
    "-": "a list must begin on a line of its own; a text that begins with '- ' needs quotes",
}
# By the character where the parser stopped.
_MISPLACED = {
    ",": "a text that begins with , needs quotes; write [ and ] around a list",
    ":": "no key before this ':'; write one, or quote the text",
    **{end: f"a {end} that closes nothing; leave it out, or quote the text that it belongs to" for end in "]}"},
    **{character: f"a text that begins with {character} needs quotes" for character in "*&"},
}
_CLOSERS = {"[": "]", "{": "}"}
_OPENERS = {"]": "[", "}": "{"}
_ESCAPED = {'"': r"\"", "'": "''"}

# Characters that both parsers reject everywhere.
_CONTROLS = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LINE_ENDS = ("\n", "\r", "\x85", "\u2028", "\u2029")

_LINE_END = re.compile("[\n\r\x85\u2028\u2029]")

# A text in double quotes, up to its closing quote, an invalid escape, or the end.
_DOUBLE_QUOTED = re.compile(
    r"""
    " (?: [^"\\]
        | \\ [0abtnvfre "/\\N_LP\t\r\n\x85\u2028\u2029]
        | \\ x [0-9a-fA-F]{2}
        | \\ u (?![dD][89a-fA-F]) [0-9a-fA-F]{4}
        | \\ U 00 (?!00[dD][89a-fA-F]) (?:0[0-9a-fA-F]|10) [0-9a-fA-F]{4}
      )*+
    """,
    re.VERBOSE,
)
_SINGLE_QUOTED = re.compile("'(?:[^']|'')*+")
_SURROGATE_ESCAPE = re.compile(r"\\(?:u|U0000)[dD][89a-fA-F][0-9a-fA-F]{2}")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
_NAME = re.compile("[*&][0-9A-Za-z_-]+(?=[\\s,:?\\]}]|\\Z)")
_STR_TAG = re.compile(r"!!str(?=\s)")
_PERCENT_LINE = re.compile("(?:\\A|[\n\r\x85\u2028\u2029])%")
_MARKER = re.compile(r"(?:---|\.\.\.)(?=\s|\Z)")

# Skipped when brackets are counted: quoted texts, comments and plain texts. A plain text may contain quotes and #, and
# outside of brackets also brackets.
_SKIPPED = r"""
    " (?: [^"\\] | \\. )*+ "?
    | ' (?: [^'] | '' )*+ '?
    | \# [^\n\r\x85\u2028\u2029]*+
    | (?: [^\s:#"'{brackets}] | :(?![\s{brackets}]) ) (?: [^\s:{brackets}] | :(?![\s{brackets}]) | \s+(?!\#) )*+
    | \s++
    | .
"""
_WITHIN_BRACKETS = re.compile(_SKIPPED.replace("{brackets}", r"\[\]{},"), re.VERBOSE | re.DOTALL)
_OUTSIDE_BRACKETS = re.compile(
    r"(?![\[{])" + _SKIPPED.replace("{brackets}", "").replace(r"\s+(?!\#)", r"[ \t]+(?!\#)"), re.VERBOSE | re.DOTALL
)


class Collection(NamedTuple):
    """A mapping or list, up to the place where the parser stopped.

    Attributes:
        position: Where it begins: its bracket, the '-' of its first item, or its first key.
        flow: It is written with brackets.
        is_list: It is a list, not a mapping.
        line: The line of its last item or key, for a message.
        column: The column of its last item or key.
    """

    position: int
    flow: bool
    is_list: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True, repr=False)
class Stop:
    """Where a parser stopped, and what it had read.

    Attributes:
        text: All of the text.
        position: Where the parser stopped.
        token_start: The start of the unfinished token, or of the key without a colon; None: there is neither.
        in_scanner: The scanner stopped: no token can continue or begin here. False: the token is not allowed here.
        last_event: The start and the end of the parser's last event.
        innermost: The innermost open collection.
        just_closed: The collection that the last event closed.
        line_offset: The number of lines before the text in its file.
        column_offset: The number of columns before each of its lines there.
    """

    text: str
    position: int
    token_start: int | None
    in_scanner: bool
    last_event: tuple[int, int]
    innermost: Collection | None
    just_closed: Collection | None
    line_offset: int
    column_offset: int

    @property
    def character(self) -> str:
        """The character where the parser stopped; empty at the end of the text."""
        return self.text[self.position : self.position + 1]

    @property
    def is_on_last_line_read(self) -> bool:
        """Whether the parser stopped in the line in which its last event ends."""
        return not _LINE_END.search(self.text, self.last_event[1], self.position)

    def first_on_line(self, position: int) -> int:
        """Returns where the text of a position's line begins, after the indentation; at most the position itself."""
        start = max(self.text.rfind(end, 0, position) for end in _LINE_ENDS) + 1
        return position - len(self.text[start:position].lstrip(" \t"))

    def place(self, position: int) -> tuple[int, int]:
        """Returns the line and the column of a position, in the text's file."""
        line, column = locate(self.text, position)
        return line + self.line_offset, column + self.column_offset

    def opens(self, position: int) -> str:
        """Returns where something was opened, as a part of a message."""
        line, column = self.place(position)
        return f"opened at line {line}, column {column}"


_Problem: TypeAlias = tuple[str, int]
"""A message, and the position that it is about."""


def explain(stop: Stop) -> _Problem:
    """Returns why a text is not YAML, and the position of the mistake. The message never quotes the text."""
    for case in _SCANNER_CASES if stop.in_scanner else _PARSER_CASES:
        problem = case(stop)
        if problem:
            return problem
    return _GENERAL, stop.position


def find_control_character(text: str) -> _Problem | None:
    """Returns the message and the position for the first character that YAML never allows; None: there is none."""
    found = _CONTROLS.search(text)
    return (_CONTROL, found.start()) if found else None


def skip_properties(text: str, position: int) -> int:
    """Returns where a node's content begins, after its anchor and its tag."""
    properties = _PROPERTIES.match(text, position)
    return properties.end() if properties else position


def find_too_deep(text: str, start: int, end: int, *, levels: int, within_brackets: bool) -> int | None:
    """Returns the position of the first bracket that opens one level too many; None: there is none.

    Args:
        text: All of the text.
        start: Where to begin, between two tokens.
        end: Where to stop.
        levels: How many levels may be opened.
        within_brackets: Whether `start` is within brackets.
    """
    depth = 0
    while start < end:
        if text[start] in "[{":
            depth += 1
            if depth > levels:
                return start
        elif text[start] in "]}":
            depth -= 1
        skipped = (_WITHIN_BRACKETS if within_brackets or depth > 0 else _OUTSIDE_BRACKETS).match(text, start)
        start = skipped.end() if skipped else start + 1
    return None


def locate(text: str, position: int) -> tuple[int, int]:
    """Returns the line and the column of a position, counted from 1. Lines end at YAML's line breaks."""
    before = text[:position]
    ends = sum(map(before.count, _LINE_ENDS)) - before.count("\r\n")
    return ends + 1, position - max(map(before.rfind, _LINE_ENDS))


# The scanner stopped


def _open_quote(stop: Stop) -> _Problem | None:
    start = stop.token_start
    if start is None or stop.text[start] not in _ESCAPED:
        return None
    quote = stop.text[start]
    scanned = (_DOUBLE_QUOTED if quote == '"' else _SINGLE_QUOTED).match(stop.text, start)
    end = scanned.end() if scanned else start
    if stop.text[end : end + 1] == "\\" and end <= stop.position:
        return _wrong_escape(stop.text, end)
    if end < stop.position:
        return None  # it is closed, so the mistake is after it
    opened = f"the {quote} {stop.opens(start)}"
    return f"{opened} is never closed; close it, and write {_ESCAPED[quote]} for each {quote} inside", stop.position


def _wrong_escape(text: str, position: int) -> _Problem:
    if text[position + 1 : position + 2] not in ("x", "u", "U"):
        return r"an unknown escape; write \\ for a backslash, or use single quotes", position
    if _SURROGATE_ESCAPE.match(text, position):
        return f"{SURROGATE}; write the character itself", position + 2
    what = r"an invalid escape: \x needs 2 hexadecimal digits, \u 4, \U 8; for a backslash, write \\"
    return what, position + 2


def _bad_name(stop: Stop) -> _Problem | None:
    start = stop.token_start
    if start is None or stop.text[start] not in "*&" or _NAME.match(stop.text, start):
        return None
    if stop.text[start] == "&":
        what = "an anchor (&) needs a name of letters, digits, - and _; a text that begins with & needs quotes"
    else:
        what = 'an alias (*) needs a name of letters, digits, - and _; a text that begins with * needs quotes: "*"'
    return what, stop.position


def _bad_tag(stop: Stop) -> _Problem | None:
    start = stop.position if stop.token_start is None else stop.token_start
    if stop.text[start : start + 1] == "!" and not _STR_TAG.match(stop.text, start):
        return EXPLICIT_TAG, start
    return None


def _tab(stop: Stop) -> _Problem | None:
    if stop.character != "\t":
        return None
    if not stop.text[stop.first_on_line(stop.position) : stop.position].strip():
        return "a tab in the indentation; indent with spaces, not tabs", stop.position
    return r"a tab that YAML does not allow here; write spaces, or \t in double quotes", stop.position


def _bad_block(stop: Stop) -> _Problem | None:
    if stop.token_start is None or stop.text[stop.token_start] not in "|>":
        return None
    mark = stop.text[stop.token_start]
    allowed = f"only -, + or a digit from 1 to 9 may follow {mark}, whose text begins on the next line"
    return f"{allowed}; a text that begins with {mark} needs quotes", stop.position


def _bad_directive(stop: Stop) -> _Problem | None:
    if stop.token_start is not None and stop.text[stop.token_start] == "%":
        return _DIRECTIVE, stop.token_start
    return None


def _reserved_character(stop: Stop) -> _Problem | None:
    what = _RESERVED.get(stop.character) if stop.token_start is None else None
    return (what, stop.position) if what else None


def _colon_without_space(stop: Stop) -> _Problem | None:
    if stop.character == ":" and stop.text[stop.position + 1 : stop.position + 2] in (",", "?", "[", "]", "{", "}"):
        what = "a ':' without a space after it; add the space, or quote the text"
        return what, stop.position
    return None


def _colon_in_text(stop: Stop) -> _Problem | None:
    if stop.token_start is not None or stop.character != ":":
        return None
    line_start = stop.first_on_line(stop.position)
    if re.search(r":\s", stop.text[line_start : stop.position]):
        return "a second ': ' in this line; a text that holds ': ' needs quotes", stop.position
    if stop.position - line_start > 1024:
        return _LONG_KEY, line_start
    start, end = stop.last_event
    if end < line_start:
        # The event of this text is still to come.
        between = re.compile(r"[-?:\s]*").match(stop.text, end)
        start = between.end() if between else end
    advice = _advise_key(stop.text, start)
    if advice and not stop.text[stop.first_on_line(start) : start].strip("- "):
        return f"{_NO_COLON}; {advice}", start
    line, _ = stop.place(start)
    what = f"a key within the text that began at line {line}; indent it less, or add the ':' that is missing there"
    return what, line_start


def _key_without_colon(stop: Stop) -> _Problem | None:
    start = stop.token_start
    if start is None:
        return None
    end = _LINE_END.search(stop.text, start)
    length = (end.start() if end else len(stop.text)) - start
    if stop.text[start] in _ESCAPED and stop.position < start + length:
        return _after_quote(stop, stop.text[start])
    if length > 1024:
        return _LONG_KEY, start
    advice = _advise_key(stop.text, start) or _ADD_COLON
    return f"{_NO_COLON}; {advice}", start


def _advise_key(text: str, start: int) -> str:
    """Returns how to turn a line into a key with its value; empty: it is not clear that this was meant."""
    line = _LINE_END.split(text[start : start + 1025], maxsplit=1)[0]
    if re.search(r"\w:(?!//)\S", line):
        return "write a space after the ':'"
    return "write ': ' in place of '='" if "=" in line else ""


# The parser stopped


def _after_value(stop: Stop) -> _Problem | None:
    """Explains text after a complete value, in the same line."""
    start, end = stop.last_event
    if not stop.is_on_last_line_read or stop.character in ("", "]", "}"):
        return None
    flow = stop.innermost is not None and stop.innermost.flow
    # After a key without a value, the last event is an empty scalar.
    at = skip_properties(stop.text, start) if start < end else len(stop.text[: stop.position].rstrip(" \t")) - 1
    first = stop.text[at : at + 1]
    if first in _ESCAPED and not (flow and stop.character in _ESCAPED):
        if stop.character == "," and not flow:
            return "a ',' after a closing quote; write [ and ] around a list", stop.position
        return _after_quote(stop, first)
    if start < end and first == "*":
        return "text after an alias (*); a text that begins with * needs quotes", stop.position
    if (start < end or not stop.innermost) and first in _OPENERS and (not flow or end == stop.position):
        return f"text after a closing {first}; a text that begins with {_OPENERS[first]} needs quotes", stop.position
    return None


def _after_quote(stop: Stop, quote: str) -> _Problem:
    what = f"text after a closing {quote}; put all of it inside the quotes"
    return f"{what}, and write {_ESCAPED[quote]} for each {quote} there", stop.position


def _misplaced_directive(stop: Stop) -> _Problem | None:
    if stop.innermost:
        return None
    found = _PERCENT_LINE.search(stop.text, max(stop.last_event[1] - 1, 0), stop.position + 1)
    return (_DIRECTIVE, found.end() - 1) if found else None


def _within_brackets(stop: Stop) -> _Problem | None:  # noqa: PLR0911  one for each mistake
    if not stop.innermost or not stop.innermost.flow:
        return None
    opener = stop.text[stop.innermost.position]
    closer = _CLOSERS[opener]
    opened = f"the {opener} {stop.opens(stop.innermost.position)}"
    if not stop.character or _MARKER.match(stop.text, stop.position):
        return f"{opened} is never closed; close it with {closer}", stop.position
    if stop.character in "]}" and stop.character != closer:
        return f"a {stop.character} cannot close {opened}; write {closer}", stop.position
    if stop.character == "," and stop.text[: stop.position].rstrip()[-1:] in ("[", "{", ","):
        return "a ',' with nothing before it; leave it out", stop.position
    if stop.character in "[{" and stop.text[stop.position - 1 : stop.position].strip(",:[{\"'"):
        return f"a text with {stop.character} in it needs quotes inside brackets", stop.position
    if _is_item(stop):
        return f"a list item ('- ') inside brackets; leave out the '-', or close {opened}", stop.position
    what = f"a ',' is missing before this, or the {closer} for {opened}"
    return (what + "; a text that holds ': ' needs quotes" if stop.character == ":" else what), stop.position


def _misplaced_character(stop: Stop) -> _Problem | None:
    what = _MISPLACED.get(stop.character)
    return (what, stop.position) if what else None


def _key_or_item(stop: Stop) -> _Problem | None:
    """Explains a key in the column of a list's items, or an item in the column of a mapping's keys."""
    here = stop.innermost
    is_item = _is_item(stop)
    if not here or here.is_list == is_item or _column(stop, here) != stop.place(stop.position)[1]:
        return None
    if is_item:
        what = f"a list item ('- ') where a key belongs, like that in line {here.line}"
        return f"{what}; indent a list more than its key", stop.position
    what = f"'- ' is missing: line {here.line} begins a list item in this column; add it"
    inner = stop.just_closed
    if inner and not inner.flow and not inner.is_list:
        what += f", or begin this line in column {inner.column}, like line {inner.line}"
    return what, stop.position


def _not_a_key(stop: Stop) -> _Problem | None:
    here = stop.innermost
    if not here or here.flow or here.is_list or _column(stop, here) != stop.place(stop.position)[1]:
        return None
    return f"{_NO_COLON}; {_ADD_COLON}", stop.position


def _indentation(stop: Stop) -> _Problem | None:
    if stop.first_on_line(stop.position) != stop.position:
        return None
    column = stop.place(stop.position)[1]
    blocks = [
        block for block in (stop.innermost, stop.just_closed) if block and _column(stop, block) not in (0, column)
    ]
    if not blocks:
        return None
    # Keys align with keys, items with items.
    alike = [block for block in blocks if block.is_list == _is_item(stop)]
    if not alike:
        what = f"a second value for line {blocks[0].line}; leave one out, or correct the indentation"
        return what, stop.position
    choices = ", or ".join(f"in column {_column(stop, block)}, like line {block.line}" for block in alike)
    return f"wrong indentation; begin this line {choices}", stop.position


def _second_root(stop: Stop) -> _Problem | None:
    if stop.innermost:
        return None
    return "the document ended before this; put everything in one mapping, and leave out '...'", stop.position


def _column(stop: Stop, block: Collection) -> int:
    """Returns the column in which the entries of a block begin; 0: unknown."""
    if block.flow or (block.is_list and stop.text[block.position : block.position + 1] != "-"):
        return 0
    return stop.place(block.position)[1] if block.is_list else block.column


def _is_item(stop: Stop) -> bool:
    return re.match(r"-(?:\s|\Z)", stop.text[stop.position : stop.position + 2]) is not None


# The first case that returns a problem wins, so special cases come first.
_SCANNER_CASES: tuple[Callable[[Stop], _Problem | None], ...] = (
    _open_quote,
    _tab,
    _bad_name,
    _bad_tag,
    _bad_block,
    _bad_directive,
    _reserved_character,
    _colon_without_space,
    _colon_in_text,
    _key_without_colon,
)
_PARSER_CASES: tuple[Callable[[Stop], _Problem | None], ...] = (
    _misplaced_directive,
    _after_value,
    _bad_tag,
    _within_brackets,
    _misplaced_character,
    _key_or_item,
    _not_a_key,
    _indentation,
    _second_root,
)
