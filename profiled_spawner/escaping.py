"""Makes untrusted text safe to print on one line of a terminal or a log.

Names, images, paths and answers come from a document, a person or the API server. None of them is trusted.
"""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Escapes every character that is not printable (`str.isprintable`).

    Returns:
        One line, without control characters.

    Example:
        A line end becomes the two characters ``\n``.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
