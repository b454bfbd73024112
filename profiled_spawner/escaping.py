"""How texts that others wrote stand in ours: on one line, with nothing in them that steers a terminal or a log.

Names, images, paths and answers come from a document, a person or the API server. None of them is trusted.
"""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """The text on one line, with an escape in place of every character that cannot be seen."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
