"""Finds the place in a text of something that a document has, to say where it is.

A document does not keep the places of what it says. So its text is parsed again, if there is something to report.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from typing import TypeAlias

from .rules import GPU
from .sections import RESOURCE_KEYS
from .yaml_tree import Mapping, Node, Scalar, Sequence

__all__ = ["Places", "Steps"]

Steps: TypeAlias = SequenceABC[str | int]

_SHORT_NAMES: MappingABC[tuple[str, str], str] = {
    (amount.kind, amount.resource): key for key, (amount, _) in RESOURCE_KEYS.items()
}


class Places:
    """The places in a text."""

    def __init__(self, root: Node | None) -> None:
        """Looks into a tree.

        Args:
            root: The text's tree.
        """
        self._root = root
        # Each mapping is looked into once: there may be many places in one that merges a lot.
        self._found: dict[int, dict[str, Node]] = {}

    def find(self, path: Steps) -> tuple[tuple[str | int, ...], Node | None]:
        """Returns how the text writes a path, and the node there, or as much of the path as there is.

        Args:
            path: Mapping keys and list positions, from the root. Amounts and variables may be written in several ways:
                the path names an amount by ``"resources", "limits", "memory"``, and a variable by ``"env", NAME``.

        Example:
            ``profiles, 0, resources, limits, memory`` may be written ``profiles, 0, resources, mem_limit``; for GPUs,
            ``profiles, 0, gpu``; and ``profiles, 0, env, A`` in a list of variables, ``profiles, 0, env, 2``.
        """
        node, written, left = self._root, [], list(path)
        while left:
            step: str | int
            below: Node | None
            step, *left = left
            if isinstance(node, Sequence):
                step = step if isinstance(step, int) else self._find_variable(node, step)
                below = node.items[step] if step < len(node.items) else None
            elif isinstance(node, Mapping) and isinstance(step, str):
                step, left = self._find_key(self._members(node), step, left)
                below = self._members(node).get(step)
            else:
                below = None
            if below is None:
                break
            node = below
            written.append(step)
        return tuple(written), node

    def _find_key(self, members: dict[str, Node], step: str, left: list[str | int]) -> tuple[str, list[str | int]]:
        """The key that a step is written as, and the steps behind it."""
        if step == "resources" and "gpu" in members and (left == ["limits", GPU] or step not in members):
            return "gpu", []
        if step in ("limits", "requests") and left:
            short = _SHORT_NAMES.get((step, str(left[0])))
            if short in members:
                return short, []
        return step, left

    def _find_variable(self, variables: Sequence, name: str) -> int:
        """The position of a variable in a list of variables; the list's length if it is not there."""
        for position, item in enumerate(variables.items):
            node = self._members(item).get("name") if isinstance(item, Mapping) else None
            if isinstance(node, Scalar) and node.value == name:
                return position
        return len(variables.items)

    def _members(self, node: Mapping) -> dict[str, Node]:
        """The values of a mapping, those that ``<<`` merges in included: its own first, as everywhere."""
        known = self._found.get(id(node))
        if known is not None:
            return known
        found: dict[str, Node] = {}
        left: list[Node] = [node]
        while left:
            each = left.pop()
            merged: list[Node] = []
            for key, value in each.pairs() if isinstance(each, Mapping) else ():
                if isinstance(key, Scalar) and key.value == "<<" and key.plain:
                    merged += value.items if isinstance(value, Sequence) else [value]
                elif isinstance(key, Scalar):
                    found.setdefault(key.value, value)
            left += reversed(merged)
        return self._found.setdefault(id(node), found)
