"""Adds warnings of what has no effect on any server to those that `validate` shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ..decide.matching import MergeOrder
from ..decide.unused import Unused, find_unused
from ..document.model import Document, Entry
from ..document.parser import ValidationResult
from ..document.places import Places, Steps
from ..document.yaml_tree import read_tree
from ..errors import Diagnostic, DocumentError, format_path
from .inputs import Input

__all__ = ["add_unused"]


def add_unused(
    source: Input, checked: ValidationResult, order: MergeOrder, before: Sequence[Document] = ()
) -> ValidationResult:
    """Adds warnings of what has no effect on any server.

    Args:
        source: The input.
        checked: What was found so far.
        order: The merge order.
        before: For a selected document, those before it: the main one first.
    """
    if checked.document is None or isinstance(source.text, DocumentError):
        return checked
    found = [_describe(each) for each in find_unused(checked.document, order, time.time())]
    for key in ("sizes", "images"):
        found += _find_shadowed(key, getattr(checked.document, key), [getattr(each, key) for each in before])
    if not found:
        return checked
    text = source.text
    places = Places(read_tree(text.text, line_offset=text.line_offset, column_offset=text.column_offset))
    warnings = [*checked.warnings, *(_warn(path, what, places) for path, what in found)]
    return replace(checked, warnings=tuple(sorted(warnings, key=lambda each: (each.line, each.column))))


def _describe(unused: Unused) -> tuple[Steps, str]:
    """The place of what has no effect, and why it has none."""
    profile, variable = unused.profile, unused.variable
    if unused.same_as is not None:
        what = f"says the same as profiles[{unused.same_as.index}], which overrides it; remove one of them"
    elif variable is None:
        what = "never has an effect: whoever it is for, other profiles override all that it gives"
    else:
        what = "never has an effect: whoever it is for, other profiles override it"
    return ("profiles", profile.index, *(() if variable is None else ("env", variable))), what


def _find_shadowed(key: str, entries: Sequence[Entry], before: Sequence[Sequence[Entry]]) -> list[tuple[Steps, str]]:
    """Sizes or images that have the name of an earlier one, which counts in their place."""
    first = {entry.name: entry for those in reversed(before) for entry in those}
    found: list[tuple[Steps, str]] = []
    for entry in entries:
        other = first.get(entry.name)
        if other is not None:
            whose = "the main document" if other.configmap is None else f"the ConfigMap {other.configmap}, before it,"
            noun = key.removesuffix("s")
            what = f"is never offered: {whose} has {'an' if noun == 'image' else 'a'} {noun} of this name; rename it"
            found.append(((key, entry.index, "name"), what))
    return found


def _warn(path: Steps, what: str, places: Places) -> Diagnostic:
    _, node = places.find(path)
    return Diagnostic(what, format_path(path), node.line if node else 0, node.column if node else 0, "warning")
