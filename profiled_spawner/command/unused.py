"""Adds warnings of what has no effect on any server to those that `validate` shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ..decide.matching import MergeOrder
from ..decide.unused import Unused, find_unused
from ..document import yaml_tree as tree
from ..document.parser import ValidationResult
from ..document.yaml_tree import Node, read_tree
from ..errors import Diagnostic, DocumentError
from .inputs import Input

__all__ = ["add_unused"]


def add_unused(source: Input, checked: ValidationResult, order: MergeOrder) -> ValidationResult:
    """Adds warnings of what has no effect on any server."""
    if checked.document is None or isinstance(source.text, DocumentError):
        return checked
    unused = find_unused(checked.document, order, time.time())
    if not unused:
        return checked
    text = source.text
    root = read_tree(text.text, line_offset=text.line_offset, column_offset=text.column_offset)
    warnings = [*checked.warnings, *(_warn(each, root) for each in unused)]
    return replace(checked, warnings=tuple(sorted(warnings, key=lambda each: (each.line, each.column))))


def _warn(unused: Unused, root: Node | None) -> Diagnostic:
    profile, variable = unused.profile, unused.variable
    path: list[str | int] = ["profiles", profile.index]
    if unused.same_as is not None:
        what = f"says the same as profiles[{unused.same_as.index}], which overrides it; remove one of them"
    elif variable is None:
        what = "never has an effect: whoever it is for, other profiles override all that it gives"
    else:
        path += ["env", variable]
        what = "never has an effect: whoever it is for, other profiles override it"
    node = _find_node(root, path)
    place = f"profiles[{profile.index}]{'' if variable is None else f'.env.{variable}'}"
    return Diagnostic(what, place, node.line if node else 0, node.column if node else 0, "warning")


def _find_node(node: Node | None, path: Sequence[str | int]) -> Node | None:
    """The node at a path, or what is nearest above it: a variable may also come from a merge key or stand in a list."""
    for step in path:
        below: Node | None = None
        if isinstance(node, tree.Sequence) and isinstance(step, int):
            below = node.items[step]
        elif isinstance(node, tree.Mapping):
            below = next((value for key, value in node.pairs() if getattr(key, "value", None) == step), None)
        if below is None:
            return node
        node = below
    return node
