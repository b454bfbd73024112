"""What the command may show on a terminal: colours where there are any, characters that it has, columns that line up.

Nothing of what is shown can steer the terminal: names, images and values come from a document that somebody else
may have written.
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

# What texts of ours are made of, for terminals that have ASCII alone.
_ASCII = {"…": "...", "✔": "+", "✘": "-", "⚠": "!", "·": "."}

# A value may be 128 KiB; what stands right of it need not be.
_WIDEST_COLUMN = 48


@dataclass(frozen=True, slots=True)
class Style:
    """How texts are set off, which on a terminal without colours is not at all.

    Attributes:
        colour: Whether there are colours.
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
    """The style that a stream can show and its user wants.

    ``NO_COLOR`` and ``FORCE_COLOR`` are https://no-color.org and https://force-color.org.
    """
    if os.environ.get("NO_COLOR"):
        return Style()
    if os.environ.get("FORCE_COLOR"):
        return Style(colour=True)
    return Style(colour=stream.isatty() and os.environ.get("TERM") != "dumb")


def escape_unencodable(stream: TextIO) -> None:
    """Lets a stream take every character: one that its encoding lacks becomes something in ASCII."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)


def align(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Makes the cells of a table printable and pads them, so that its columns line up.

    A cell that is too wide for that is not padded.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max((width for width in map(_width, column) if width <= _WIDEST_COLUMN), default=0)
        for column in zip(*shown, strict=True)
    ]
    return [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in shown]


def _width(text: str) -> int:
    """How many cells of a terminal the text takes."""
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


def print_notice(what: str) -> None:
    """Prints one line of the command's own on the standard error."""
    print(f"profiled-spawner: {printable(what)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Prints a value in ASCII, which says the same everywhere and cannot steer a terminal."""
    print(json.dumps(value, indent=2))
