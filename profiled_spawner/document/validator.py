"""A tree's mappings, lists and texts, with every error in them gathered: what all sections of a document share."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from collections.abc import Mapping as MappingABC
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ..errors import MAX_ERRORS, Diagnostic, format_path
from .yaml_tree import Mapping, Node, Scalar, Sequence

__all__ = ["HIDDEN", "MAX_DIAGNOSTICS", "Entries", "Path", "Reader", "TooManyErrors", "find_closest", "to_predicate"]

MAX_DIAGNOSTICS = 100

HIDDEN = "…"
"""Stands in a path for a key that may be a secret in the wrong place; line and column say where it is."""

# Of the keys that an object may have.
_MOST_SHOWN = 15
# Of a key that was cut short.
_SHORTEST_START = 6
# No known name has more than half as many.
_LONGEST_RESEMBLING = 60

Path: TypeAlias = tuple[str | int | Scalar, ...]
"""Steps from the document's root: keys and positions. A scalar is a key that an error quotes if it may."""
Entries: TypeAlias = dict[str, tuple[Scalar, Node]]
"""A mapping's keys and values by the keys' texts."""

# Of a node: outside of every env section, such a section itself, or inside one.
_Where: TypeAlias = Literal["outside", "env", "inside"]

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


# Keys of this format and of manifests, which are nobody's secret wherever they stand.
_WORDS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "data", "spec", "profiles", "sizes", "name", "description", "images"),
        *(
            "users",
            "groups",
            "env",
            "env_from",
            "resources",
            "gpu",
            "node_selector",
            "node_tolerations",
            "node_affinity",
        ),
        *("volumes", "labels", "annotations", "limits", "requests", "value", "valueFrom"),
    }
)


class TooManyErrors(Exception):  # noqa: N818  the reader's way out, which nobody else sees
    """There are `MAX_ERRORS`. Nobody reads more, and each takes time."""


class Reader:
    """Walks a tree, gathering errors. A method returns what it could read; errors make the rest moot."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.errors: list[Diagnostic] = []
        self.count = 0
        # Keys that are known and have no meaning here, each with what is behind it.
        self.ignored: list[tuple[Scalar, Node, tuple[str | int, ...]]] = []
        self._said: set[int] = set()
        # What was read of a node, by the node's identity and as what: a section that an alias repeats is read once.
        self.known: dict[tuple[int, str | int | Scalar], Any] = {}

    @cached_property
    def env_texts(self) -> set[int]:
        """The scalars, by identity, that stand inside ``env``, keys included: never to be quoted.

        A mistyped value becomes a key as easily as a text. Only the names of a mapping of variables are not among
        them. An alias may put any of them anywhere else. Only a document with something to quote pays for looking.
        """
        found: set[int] = set()
        seen: set[tuple[int, _Where]] = set()
        left: list[tuple[Node, _Where]] = [(self.root, "outside")]
        while left:
            node, where = left.pop()
            if (id(node), where) in seen:
                continue
            seen.add((id(node), where))
            if isinstance(node, Scalar):
                if where != "outside":
                    found.add(id(node))
            elif where == "env":
                left += _enter_env(node)
            elif isinstance(node, Sequence) or where == "inside":
                left += [(item, where) for item in node.items]
            else:
                for key, value in node.pairs():
                    is_env = isinstance(key, Scalar) and key.value == "env"
                    left += [(key, "outside"), (value, "env" if is_env else "outside")]
        return found

    def is_quotable(self, node: Node) -> bool:
        """Whether a message may hold the text: it is not part of anybody's environment variable."""
        return id(node) not in self.env_texts

    def step(self, key: Scalar, *, is_public: bool) -> Scalar | str:
        """A key as a step of a path: itself if it is a name that this format knows or allows, else `HIDDEN`."""
        return key if is_public else HIDDEN

    def error(self, node: Node, path: Path, what: str) -> None:
        # An alias may repeat an error; hashes, because there may be many.
        key = hash((node.line, node.column, what))
        if key in self._said:
            return
        self._said.add(key)
        self.count += 1
        if len(self.errors) < MAX_DIAGNOSTICS:
            self.errors.append(Diagnostic(what, format_path([*map(self._shown, path)]), node.line, node.column))
        elif self.count == MAX_ERRORS:
            raise TooManyErrors

    def _shown(self, step: str | int | Scalar) -> str | int:
        # Only here, since it takes a look at all of the document.
        if isinstance(step, Scalar):
            return step.value if self.is_quotable(step) else HIDDEN
        return step

    def entries(self, node: Mapping, path: Path, is_public: Callable[[str], bool]) -> Entries:
        """A mapping's keys and values, with those merged in by ``<<`` behind its own.

        Args:
            node: The mapping.
            path: Where it is.
            is_public: Whether an error may quote a key.
        """
        found: Entries = {}
        # In the order in which they win: of a mapping, its own keys, then those of what it merges in, one by one.
        # Each is put where it belongs at once: handed on level by level, it would be copied at each.
        left: list[Node] = [node]
        while left:
            base = left.pop()
            if isinstance(base, Mapping):
                own, merged = self._own_entries(base, path, is_public)
                left += reversed(merged)
                for name, entry in own.items() if found else ():
                    found.setdefault(name, entry)
                found = found or own
            else:
                self.error(base, (*path, "<<"), "only mappings can be merged in: '<<: *anchor'")
        return found

    def _own_entries(self, node: Mapping, path: Path, is_public: Callable[[str], bool]) -> tuple[Entries, list[Node]]:
        """A mapping's own keys and values, and what it merges in."""
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
                merged += value.items if isinstance(value, Sequence) else (value,)
            elif key.is_empty:
                self.error(key, path, "a value without a key")
            elif key.value in found:
                here = (*path, self.step(key, is_public=is_public(key.value)))
                self.error(key, here, f"given twice, first at line {found[key.value][0].line}")
            else:
                found[key.value] = (key, value)
        return found, merged

    def known_entries(
        self,
        node: Mapping,
        path: Path,
        known: tuple[str, ...],
        what: str,
        *,
        ignored: Container[str] = (),
        hints: MappingABC[str, str] = MappingProxyType({}),
    ) -> Entries:
        """The same of a mapping that may have some keys alone.

        Args:
            node: The mapping.
            path: Where it is.
            known: The keys that it may have. An error quotes another one if it resembles those.
            what: What the mapping is, for an error.
            ignored: Keys that are no error.
            hints: What to do about keys of other places and formats, which an error quotes.
        """
        if not node.items:
            return {}
        entries = self.entries(
            node, path, lambda name: name in hints or name in _WORDS or find_closest(name, known) is not None
        )
        for name in [name for name in entries if name not in known]:
            key, value = entries.pop(name)
            if name in ignored:
                self.ignored.append((key, value, (*map(self._shown, path), name)))
                continue
            hint = hints.get(name)
            meant = find_closest(name, known) if not hint and len(self.errors) < MAX_DIAGNOSTICS else None
            here = (*path, self.step(key, is_public=bool(hint or meant) or name in _WORDS))
            if not hint:
                others = ", …" if len(known) > _MOST_SHOWN else ""
                hint = f"did you mean '{meant}'?" if meant else f"{what} has {', '.join(known[:_MOST_SHOWN])}{others}"
            if not path and name.startswith(("x-", ".")):
                hint += "; put an anchor (&) where its value is first used"
            self.error(key, here, f"unknown key; {hint}")
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
                item.value if isinstance(item, Scalar) and item.value else self._item(node, item, (*path, position))
                for position, item in enumerate(node.items)
            ]
        )

    def _item(self, node: Sequence, item: Node, path: Path) -> str:
        if not isinstance(item, Sequence):
            return self.text(item, path) or ""
        # Behind an alias, it has the place of its anchor.
        is_before = (item.line, item.column) < (node.line, node.column)
        what = "a list within the list, and YAML cannot join two; write its entries out"
        self.error(node if is_before else item, path, what)
        return ""

    def wrong_type(self, node: Node, path: Path, wanted: str, empty: str = "") -> None:
        step = self._shown(path[-1])
        name = step if isinstance(step, str) and step != HIDDEN else "this"
        if isinstance(node, Scalar) and (node.is_empty or (node.is_null and empty)):
            otherwise = ", or leave the key out" if len(path) > 1 else ""
            hint = f"; write '{empty}' for none{otherwise}" if empty else ""
            self.error(node, path, f"{'is null' if node.value else 'has no value'}{hint}")
            return
        hint = "; put it in brackets, [ and ]" if isinstance(node, Scalar) and wanted == "a list" else ""
        self.error(node, path, f"{name} must be {wanted}{hint}")


def _enter_env(node: Sequence | Mapping) -> Iterator[tuple[Node, _Where]]:
    """What stands in an env section; its own keys, and those of the mappings that it merges in, are names."""
    if isinstance(node, Sequence):
        yield from ((item, "inside") for item in node.items)
        return
    for key, value in node.pairs():
        if isinstance(key, Scalar) and key.value == "<<":
            bases = value.items if isinstance(value, Sequence) else [value]
            yield from ((base, "env") for base in bases)
        else:
            yield value, "inside"
            if not isinstance(key, Scalar):
                yield key, "inside"


def find_closest(name: str, known: tuple[str, ...]) -> str | None:
    """The one of the known names that was meant, itself included; None if the name resembles none of them."""
    return _find_closest(name, known) if len(name) <= _LONGEST_RESEMBLING else None


# Each unknown key is asked for several times, and comparing takes long.
@lru_cache(maxsize=512)
def _find_closest(name: str, known: tuple[str, ...]) -> str | None:
    meant = _MEANT.get(name) or _MEANT.get(name.lower())
    if meant in known:
        return meant
    if len(name) >= _SHORTEST_START and (longer := [each for each in known if each.startswith(name)]):
        return longer[0]
    # Only a document with errors pays for the import.
    from difflib import get_close_matches

    # What others call it counts as its name, so that "enviroment" is an environment.
    names = {other.lower(): each for other, each in _MEANT.items() if each in known}
    names |= {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    return names[matches[0]] if matches else None


def to_predicate(fault: str) -> str:
    """A fault as the rest of a sentence: "not a name" becomes "is not a name"."""
    return f"is {fault}" if fault.startswith("not ") else fault
