"""What a slip of the hand does to a text: something is missing, too much, in the wrong place or in quotes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

__all__ = ["damage", "damages"]

_INSERTED = (*" \t\n:,-[]{}\"'#&*!|>?%@`=\\", ": ", ", ", "- ", "<<: ", "\n\n")
_WORD = re.compile(r"""[^\s:,\[\]{}"'=]+|[:,\[\]{}"'=]""")
_LINE = re.compile(r".*\n?")

_Damage = Callable[[str, int], str | None]


def _delete(length: int) -> _Damage:
    def delete(text: str, position: int) -> str | None:
        return text[:position] + text[position + length :]

    return delete


def _insert(what: str) -> _Damage:
    def insert(text: str, position: int) -> str | None:
        return text[:position] + what + text[position:]

    return insert


def _swap_characters(text: str, position: int) -> str | None:
    pair = text[position : position + 2]
    return text[:position] + pair[::-1] + text[position + 2 :]


def _delete_word(text: str, position: int) -> str | None:
    word = _word_at(text, position)
    return word and text[:position] + text[position + len(word) :]


def _swap_words(text: str, position: int) -> str | None:
    first = _word_at(text, position)
    second = first and _WORD.search(text, position + len(first))
    if not first or not second:
        return None
    between = text[position + len(first) : second.start()]
    return text[:position] + second[0] + between + first + text[second.end() :]


def _quote(mark: str) -> _Damage:
    def quote(text: str, position: int) -> str | None:
        word = _word_at(text, position)
        return word and text[:position] + mark + word + mark + text[position + len(word) :]

    return quote


def _unquote(text: str, position: int) -> str | None:
    if text[position] not in "\"'":
        return None
    end = text.find(text[position], position + 1)
    return None if end < 0 else text[:position] + text[position + 1 : end] + text[end + 1 :]


def _delete_line(text: str, position: int) -> str | None:
    line = _line_at(text, position)
    return line and text[:position] + text[position + len(line) :]


def _duplicate_line(text: str, position: int) -> str | None:
    line = _line_at(text, position)
    return line and text[:position] + line + text[position:]


def _swap_lines(text: str, position: int) -> str | None:
    line = _line_at(text, position)
    other = line and _line_at(text, position + len(line))
    return text[:position] + other + line + text[position + len(line + other) :] if line and other else None


def _shift(columns: int, *, block: bool) -> _Damage:
    """Indents or dedents a line, or the line and those below that are indented further."""

    def shift(text: str, position: int) -> str | None:
        line = _line_at(text, position)
        if not line:
            return None
        lines = [line]
        end = position + len(line)
        while block and (below := _line_at(text, end)) and _indent(below) > _indent(line):
            lines.append(below)
            end += len(below)
        if columns < 0 and _indent(line) < -columns:
            return None
        shifted = (" " * columns + each if columns > 0 else each[-columns:] for each in lines)
        return text[:position] + "".join(shifted) + text[end:]

    return shift


def _word_at(text: str, position: int) -> str | None:
    """The word that begins there."""
    word = _WORD.match(text, position)
    begins = position == 0 or len(_WORD.match(text, position - 1)[0] if _WORD.match(text, position - 1) else "") <= 1
    return word[0] if word and begins else None


def _line_at(text: str, position: int) -> str | None:
    """The line that begins there."""
    return _LINE.match(text, position)[0] if position == 0 or text[position - 1] == "\n" else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


_DAMAGES: tuple[_Damage, ...] = (
    *map(_delete, (1, 2, 3, 7)),
    *map(_insert, _INSERTED),
    *map(_quote, "\"'"),
    *(_shift(columns, block=block) for columns in (-2, -1, 1, 2) for block in (False, True)),
    *(_swap_characters, _delete_word, _swap_words, _unquote, _delete_line, _duplicate_line, _swap_lines),
)


def damages(text: str) -> Iterator[str]:
    """The text with every damage at every position, one at a time."""
    for position in range(len(text)):
        for each in _DAMAGES:
            damaged = each(text, position)
            if damaged is not None:
                yield damaged


def damage(text: str, randomness: random.Random) -> str:
    """The text with one damage at random."""
    while text:
        damaged = randomness.choice(_DAMAGES)(text, randomness.randrange(len(text)))
        if damaged is not None:
            return damaged
    return text
