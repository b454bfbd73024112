"""Output to a terminal: colours if it has them, aligned columns, and characters that its encoding has.

Names, images and values come from documents, which are not trusted: control characters are escaped.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ..escaping import printable

__all__ = ["Style", "align", "choose_style", "escape_unencodable", "print_json", "print_notice", "printable"]

# Replacements for our own characters, for terminals with ASCII only.
_ASCII = {"…": "...", "✔": "+", "✘": "-", "⚠": "!", "·": "."}

# Do not pad columns to the width of a longer cell: a value may have 128 KiB.
_WIDEST_COLUMN = 48


@dataclass(frozen=True, slots=True)
class Style:
    """Colours and bold text; without colours, texts stay as they are.

    Attributes:
        colour: Whether to use them.
    """

    colour: bool = False

    def bold(self, text: str) -> str:
        return self._set(text, 1)

    def dim(self, text: str) -> str:
        return self._set(text, 2)

    def red(self, text: str) -> str:
        return self._set(text, 31)

    def green(self, text: str) -> str:
        return self._set(text, 32)

    def yellow(self, text: str) -> str:
        return self._set(text, 33)

    def _set(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


def choose_style(stream: TextIO) -> Style:
    """The style for a stream: colours on a terminal, unless the user chose otherwise.

    The user chooses with the environment variables ``NO_COLOR`` (https://no-color.org) and ``FORCE_COLOR``
    (https://force-color.org).
    """
    if os.environ.get("NO_COLOR"):
        return Style()
    if os.environ.get("FORCE_COLOR"):
        return Style(colour=True)
    return Style(colour=stream.isatty() and os.environ.get("TERM") != "dumb")


def escape_unencodable(stream: TextIO) -> None:
    """Lets a stream accept every character: those that its encoding lacks are replaced with ASCII."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)


def align(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Escapes the cells of a table, and pads them so that the columns are aligned.

    Args:
        rows: Rows of equal length.

    Returns:
        The rows. Cells wider than 48 are not padded, and do not widen their column.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max((width for width in map(_width, column) if width <= _WIDEST_COLUMN), default=0)
        for column in zip(*shown, strict=True)
    ]
    return [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in shown]


def _width(text: str) -> int:
    """The width of a text on a terminal: East Asian wide characters take two cells, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(each) or each.encode("unicode_escape").decode() for each in text), error.end


_ERRORS = "profiled_spawner.ascii"
codecs.register_error(_ERRORS, _replace)


def print_notice(text: str) -> None:
    """Prints one line of the command itself, as ``profiled-spawner: …``, to the standard error."""
    print(f"profiled-spawner: {printable(text)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Prints a value as JSON in ASCII, which is the same in every encoding and safe on a terminal."""
    print(json.dumps(value, indent=2))
