"""Walks a tree and collects all errors with their places. `sections` and `kubernetes` define what is valid."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from collections.abc import Mapping as MappingABC
from collections.abc import Set as AbstractSet
from datetime import UTC, tzinfo
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar

from ..errors import MAX_ERRORS, Diagnostic, format_path
from .suggestions import find_closest
from .yaml_tree import Mapping, Node, Scalar, Sequence

__all__ = ["HIDDEN", "MAX_DIAGNOSTICS", "Entries", "Path", "TooManyErrors", "Validator"]

T = TypeVar("T")

MAX_DIAGNOSTICS = 100

HIDDEN = "…"
"""Replaces a key in a path if it may be a misplaced secret. Line and column still say where it is."""

# An error lists at most so many keys.
_MOST_SHOWN = 16

Path: TypeAlias = tuple[str | int | Scalar, ...]
"""Steps from the document's root: keys and positions. An error shows a scalar only if it `is_quotable`."""
Entries: TypeAlias = dict[str, tuple[Scalar, Node]]
"""A mapping's keys and values, by the keys' texts."""

# Whether a node is outside of all env sections, an env section itself, or inside one.
_Where: TypeAlias = Literal["outside", "env", "inside"]


class TooManyErrors(Exception):  # noqa: N818  stops the walk; nobody outside catches it
    """There are `MAX_ERRORS` errors. Nobody reads more, and each takes time."""


class Validator:
    """Walks a tree and collects errors.

    After an error, a method returns what it could read. The caller discards the result if there are errors.

    Attributes:
        errors: The first `MAX_DIAGNOSTICS` errors, in the order in which they were found.
        count: The number of all errors that were found.
        ignored: The keys of other formats, each with its value and its path.
        patterns: The images with a ``*`` that were found so far.
        zone: The time zone of dates and times without an offset.
    """

    def __init__(self, root: Node, words: AbstractSet[str] = frozenset()) -> None:
        """Begins a walk.

        Args:
            root: The tree.
            words: The format's keys, which an error may quote anywhere.
        """
        self.root = root
        self.errors: list[Diagnostic] = []
        self.count = 0
        self.ignored: list[tuple[Scalar, Node, tuple[str | int, ...]]] = []
        self.patterns: set[str] = set()
        self.zone: tzinfo = UTC
        self._words = words
        self._reported: set[int] = set()
        self._results: dict[tuple[int, str], Any] = {}

    def once(self, node: Node, kind: str, read: Callable[[], T]) -> T:
        """Returns the result of `read`. Calls it once for each node and kind, because aliases can repeat a node."""
        key = id(node), kind
        result: T | None = self._results.get(key)
        if result is None:
            result = self._results[key] = read()
        return result

    @cached_property
    def env_texts(self) -> set[int]:
        """The identities of all scalars in ``env`` sections, except names of variables. No message quotes these texts.

        Keys are included, because a typing mistake can turn a value into a key. Identities are used, because an alias
        can repeat a value elsewhere. The tree is searched only if an error wants to quote something.
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
        """Whether a message may quote the text, because it is not in an ``env`` section."""
        return id(node) not in self.env_texts

    def error_about_text(self, node: Node, path: Path, what: str, unquoted: str) -> None:
        """Adds an error that quotes the text; `unquoted` if it must not."""
        self.error(node, path, what if self.is_quotable(node) else unquoted)

    def step(self, key: Scalar, *, is_public: bool) -> Scalar | str:
        """Returns a key as a step of a path: the key if its name is public, else `HIDDEN`."""
        return key if is_public else HIDDEN

    def error(self, node: Node, path: Path, what: str) -> None:
        """Adds an error, unless the same error was added for this place: aliases repeat nodes.

        Raises:
            TooManyErrors: There are `MAX_ERRORS` errors.
        """
        # Hashes need less memory than the texts.
        key = hash((node.line, node.column, what))
        if key in self._reported:
            return
        self._reported.add(key)
        self.count += 1
        if len(self.errors) < MAX_DIAGNOSTICS:
            self.errors.append(Diagnostic(what, format_path([*map(self._shown, path)]), node.line, node.column))
        elif self.count == MAX_ERRORS:
            raise TooManyErrors

    def _shown(self, step: str | int | Scalar) -> str | int:
        # Called only for an error, because `is_quotable` searches the whole tree.
        if isinstance(step, Scalar):
            return step.value if self.is_quotable(step) else HIDDEN
        return step

    def entries(self, node: Mapping, path: Path, is_public: Callable[[str], bool]) -> Entries:
        """Returns a mapping's keys and values: its own first, then those that ``<<`` merges in.

        Args:
            node: The mapping.
            path: Its place.
            is_public: Whether an error may quote a key.
        """
        found, merged = self._own_entries(node, path, is_public)
        # Depth first, in order of precedence. Each entry is stored once: a recursion would copy it at each level.
        left = merged[::-1]
        while left:
            base = left.pop()
            if isinstance(base, Mapping):
                own, merged = self._own_entries(base, path, is_public)
                left += reversed(merged)
                for name, entry in own.items():
                    found.setdefault(name, entry)
            else:
                self.error(base, (*path, "<<"), "only mappings can be merged in: '<<: *anchor'")
        return found

    def _own_entries(self, node: Mapping, path: Path, is_public: Callable[[str], bool]) -> tuple[Entries, list[Node]]:
        """Returns a mapping's own keys and values, and the nodes that it merges in."""
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
        """Returns the keys and values of a mapping that has a fixed set of keys. Other keys are errors.

        Args:
            node: The mapping.
            path: Its place.
            known: The keys of the mapping. An error only quotes an unknown key if it resembles one of them.
            what: What an error calls the mapping.
            ignored: Keys that are added to `ignored`, and are not errors.
            hints: Advice for keys of other places and formats. An error quotes these keys.
        """
        if not node.items:
            return {}
        entries = self.entries(
            node, path, lambda name: name in hints or name in self._words or find_closest(name, known) is not None
        )
        for name in [name for name in entries if name not in known]:
            key, value = entries.pop(name)
            if name in ignored:
                self.ignored.append((key, value, (*map(self._shown, path), name)))
                continue
            hint = hints.get(name)
            meant = find_closest(name, known) if not hint and len(self.errors) < MAX_DIAGNOSTICS else None
            here = (*path, self.step(key, is_public=bool(hint or meant) or name in self._words))
            if not hint:
                others = ", …" if len(known) > _MOST_SHOWN else ""
                hint = f"did you mean '{meant}'?" if meant else f"{what} has {', '.join(known[:_MOST_SHOWN])}{others}"
            if not path and name.startswith(("x-", ".")):
                hint += "; put an anchor (&) where its value is first used"
            self.error(key, here, f"unknown key; {hint}")
        return entries

    def text(self, node: Node, path: Path) -> str | None:
        """Returns a text that is not empty; None: it is an error."""
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, "text")
            return None
        if not node.value:
            self.error(node, path, "has no value" if node.plain else "must not be empty")
            return None
        return node.value

    def items(self, node: Node, path: Path, wanted: str = "a list") -> list[Node]:
        """Returns the items of a list; empty if the node is not a list, which is an error."""
        if isinstance(node, Sequence):
            return node.items
        self.wrong_type(node, path, wanted, empty=f"{path[-1]}: []")
        return []

    def texts(self, node: Node, path: Path) -> tuple[str, ...]:
        """Returns a list of texts. A text that is empty or missing is an error."""
        return tuple(
            [
                item.value if isinstance(item, Scalar) and item.value else self._item(node, item, (*path, position))
                for position, item in enumerate(self.items(node, path))
            ]
        )

    def _item(self, node: Node, item: Node, path: Path) -> str:
        if not isinstance(item, Sequence):
            return self.text(item, path) or ""
        # A node that an alias repeats has the place of its anchor, which may be before this list.
        is_before = (item.line, item.column) < (node.line, node.column)
        what = "a list within the list, and YAML cannot join two; write its entries out"
        self.error(node if is_before else item, path, what)
        return ""

    def wrong_type(self, node: Node, path: Path, wanted: str, empty: str = "") -> None:
        """Adds the error that a node has a wrong type.

        Args:
            node: The node.
            path: Its place.
            wanted: What it must be.
            empty: How to write an empty value, if that is possible.
        """
        if isinstance(node, Scalar) and (node.is_empty or (node.is_null and empty)):
            otherwise = ", or leave the key out" if len(path) > 1 else ""
            hint = f"; write '{empty}' for none{otherwise}" if empty else ""
            self.error(node, path, f"{'is null' if node.value else 'has no value'}{hint}")
            return
        hint = "; put it in brackets, [ and ]" if isinstance(node, Scalar) and wanted == "a list" else ""
        self.error(node, path, f"must be {wanted}{hint}")


def _enter_env(node: Sequence | Mapping) -> Iterator[tuple[Node, _Where]]:
    """Yields the nodes in an env section, without the names of variables, which merged mappings have too."""
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
