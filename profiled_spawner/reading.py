"""A tree's mappings, lists and texts, with every error in them gathered: what all sections of a document share."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import cached_property
from typing import Any, TypeAlias

from .errors import Diagnostic, format_path
from .tree import Mapping, Node, Scalar, Sequence

__all__ = ["MAX_DIAGNOSTICS", "Entries", "Path", "Reader", "find_closest"]

MAX_DIAGNOSTICS = 100

# Of the keys that an object may have.
_MOST_SHOWN = 15

Path: TypeAlias = tuple[str | int, ...]
"""Steps from the document's root: keys and positions."""
Entries: TypeAlias = dict[str, tuple[Scalar, Node]]
"""A mapping's keys and values by the keys' texts."""

# Keys of other formats and habits, and ours for the same thing.
_MEANT = {
    "profile": "profiles",
    "image": "images",
    "user": "users",
    "group": "groups",
    "envFrom": "env_from",
    "gpus": "gpu",
    "tolerations": "node_tolerations",
    "affinity": "node_affinity",
    "volume": "volumes",
    "pvc": "persistentVolumeClaim",
    "mount": "mountPath",
    "size": "sizes",
    "environment": "env",
    "mem": "mem_limit",
    "memory": "mem_limit",
    "memory_limit": "mem_limit",
    "cpu": "cpu_limit",
    "memory_guarantee": "mem_guarantee",
    "mem_request": "mem_guarantee",
    "cpu_request": "cpu_guarantee",
    "value_from": "valueFrom",
}


class Reader:
    """Walks a tree, gathering errors. A method returns what it could read; errors make the rest moot."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.errors: list[Diagnostic] = []
        self.count = 0
        # Keys that are known and have no meaning here, each with what is behind it.
        self.ignored: list[tuple[Scalar, Node, Path]] = []
        self._said: set[int] = set()
        # What was read of a node, by the node's identity and as what: a section that an alias repeats is read once.
        self.known: dict[tuple[int, str | int], Any] = {}

    @cached_property
    def env_values(self) -> set[int]:
        """The scalars, by identity, that are environment variables' values, or part of one: not to be quoted.

        An alias may put one anywhere. Only a document with something to quote pays for looking.
        """
        found: set[int] = set()
        seen: set[tuple[int, bool]] = set()
        left: list[tuple[Node, bool]] = [(self.root, False)]
        while left:
            node, inside = left.pop()
            if (id(node), inside) in seen:
                continue
            seen.add((id(node), inside))
            if isinstance(node, Scalar):
                if inside:
                    found.add(id(node))
            elif isinstance(node, Sequence):
                left += [(item, inside) for item in node.items]
            else:
                for key, value in node.pairs():
                    is_env = isinstance(key, Scalar) and key.value == "env"
                    left += [(key, False), (value, inside or is_env)]
        return found

    def is_quotable(self, node: Node) -> bool:
        """Whether a message may hold the text: it is nobody's environment variable."""
        return id(node) not in self.env_values

    def error(self, node: Node, path: Path, what: str) -> None:
        # An alias may repeat an error; hashes, because there may be many.
        key = hash((node.line, node.column, what))
        if key in self._said:
            return
        self._said.add(key)
        self.count += 1
        if len(self.errors) < MAX_DIAGNOSTICS:
            self.errors.append(Diagnostic(what, format_path(path), node.line, node.column))

    def entries(self, node: Mapping, path: Path, shown: Callable[[str], str] = str) -> Entries:
        """A mapping's keys and values, with those merged in by ``<<`` behind its own."""
        found: Entries = {}
        merged: list[Node] = []
        merge_key: Scalar | None = None
        for key, value in node.pairs():
            if not isinstance(key, Scalar):
                self.error(key, path, "a mapping's key must be text")
            elif key.value == "<<" and key.plain:
                if merge_key:
                    self.error(key, (*path, "<<"), f"given twice, first at line {merge_key.line}; use '<<: [*a, *b]'")
                merge_key = key
                merged.append(value)
            elif key.is_empty:
                self.error(key, path, "a value without a key")
            elif key.value in found:
                first = found[key.value][0]
                name = shown(key.value) if self.is_quotable(key) else "…"
                self.error(key, (*path, name), f"given twice, first at line {first.line}")
            else:
                found[key.value] = (key, value)
        for value in merged:
            for base in value.items if isinstance(value, Sequence) else (value,):
                if isinstance(base, Mapping):
                    for name, entry in self.entries(base, path, shown).items():
                        found.setdefault(name, entry)
                else:
                    self.error(base, (*path, "<<"), "only mappings can be merged in: '<<: *anchor'")
        return found

    def known_entries(
        self,
        node: Mapping,
        path: Path,
        known: tuple[str, ...],
        what: str,
        shown: Callable[[str], str] = str,
        ignored: Container[str] = (),
    ) -> Entries:
        if not node.items:
            return {}
        entries = self.entries(node, path, shown)
        for name in [name for name in entries if name not in known]:
            key, value = entries.pop(name)
            if name in ignored:
                self.ignored.append((key, value, (*path, name)))
                continue
            meant = find_closest(name, known) if len(self.errors) < MAX_DIAGNOSTICS else None
            others = ", …" if len(known) > _MOST_SHOWN else ""
            hint = f"did you mean '{meant}'?" if meant else f"{what} has {', '.join(known[:_MOST_SHOWN])}{others}"
            self.error(key, (*path, shown(name) if self.is_quotable(key) else "…"), f"unknown key; {hint}")
        return entries

    def text(self, node: Node, path: Path) -> str | None:
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, "text")
            return None
        if not node.value:
            self.error(node, path, "has no value" if node.plain else "must not be empty")
            return None
        return node.value

    def texts(self, node: Node, path: Path) -> tuple[str, ...]:
        if not isinstance(node, Sequence):
            self.wrong_type(node, path, "a list", empty=f"{path[-1]}: []")
            return ()
        return tuple(
            [
                item.value if isinstance(item, Scalar) and item.value else self.text(item, (*path, position)) or ""
                for position, item in enumerate(node.items)
            ]
        )

    def wrong_type(self, node: Node, path: Path, wanted: str, empty: str = "") -> None:
        name = path[-1] if isinstance(path[-1], str) else "this"
        if isinstance(node, Scalar) and (node.is_empty or (node.is_null and empty)):
            otherwise = ", or leave the key out" if len(path) > 1 else ""
            hint = f"; write '{empty}' for none{otherwise}" if empty else ""
            self.error(node, path, f"{'is null' if node.value else 'has no value'}{hint}")
            return
        found = ""
        if isinstance(node, Scalar) and wanted == "a list" and _is_word(node) and self.is_quotable(node):
            found = f": [{node.value}]"
        self.error(node, path, f"{name} must be {wanted}{found}")


def find_closest(name: str, known: tuple[str, ...]) -> str | None:
    meant = _MEANT.get(name) or _MEANT.get(name.lower())
    if meant in known:
        return meant
    # Only a document with errors pays for the import.
    from difflib import get_close_matches

    matches = get_close_matches(name.lower()[:40], [each.lower() for each in known], n=1, cutoff=0.7)
    return next((each for each in known if each.lower() in matches), None)


def _is_word(node: Scalar) -> bool:
    """Whether a text is short enough for a message."""
    return node.plain and len(node.value) <= 60 and node.value.isprintable()
