"""Reads an image character by character, as an automaton, and knows which entries of `images` match it.

It is exactly what `matching` does with a whole image: an image is also matched as it is with ``:latest``, or without,
and one with a digest is also matched without its tag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import or_
from typing import Literal, NamedTuple

from ..document.model import EVERYONE

__all__ = ["Cursor", "ImageAutomaton", "Places", "State"]

_LATEST = "latest"


class Cursor(NamedTuple):
    """How far the entries have been read.

    Attributes:
        places: A bit for each place in an entry with a star that the text may have come to.
        branch: The branch of the tree of entries without a star; None if none of them begins like this.
    """

    places: int
    branch: int | None


class Places(NamedTuple):
    """Where a cursor may be in some entries.

    Attributes:
        places: Places in entries with a star, as bits.
        branches: Branches of the tree of the others, each with the number of characters that are left.
    """

    places: int
    branches: Mapping[int, int]


class State(NamedTuple):
    """All that matters of how an image begins.

    Attributes:
        cursor: How far the entries have been read.
        part: What stands at the end: the name, the tag or the digest.
        tag: The tag so far, while it may become ``latest``; None otherwise.
        untagged: The cursor of the same image without its tag; None if there is none.
    """

    cursor: Cursor
    part: Literal["name", "tag", "digest"]
    tag: str | None = None
    untagged: Cursor | None = None


class ImageAutomaton:
    """Reads an image, and knows which entries match it.

    Entries with a star are one nondeterministic automaton, whose states are the bits of a number: reading a character
    is a shift. The others are a tree.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._by_character: dict[str, int] = {}
        self._stars = 0
        self._left: list[int] = []
        self._ends: dict[int, int] = {}
        self._branches: list[dict[str, int]] = [{}]
        self._complete: dict[int, int] = {}
        self._places: dict[str, Places] = {}
        begin = place = 0
        for position, entry in enumerate(entries):
            if EVERYONE not in entry:
                branches = self._add_branch(entry, position)
                self._places[entry] = Places(0, {branch: len(entry) - read for read, branch in enumerate(branches)})
                continue
            begin |= 1 << place
            first = place
            # An image without a tag needs no more than what stands before ":latest".
            left = len(entry.removesuffix(f":{_LATEST}")) - entry.count(EVERYONE)
            before = ""
            for character in entry:
                if before == character == EVERYONE:
                    continue
                self._left.append(max(left, 0))
                if character == EVERYONE:
                    self._stars |= 1 << place
                else:
                    self._by_character[character] = self._by_character.get(character, 0) | 1 << place
                    left -= 1
                before = character
                place += 1
            self._left.append(0)
            self._ends[1 << place] = position
            place += 1
            self._places[entry] = Places((1 << place) - (1 << first), {})
        self._all_ends = sum(self._ends)
        known = {*self._by_character, *(character for branch in self._branches for character in branch), *_LATEST}
        # A character that no entry has: any of them does what all do.
        others = chain("xyz0123456789", map(chr, range(ord("a"), 0x110000)))
        self._other = next(each for each in others if each not in known)
        self.start = State(Cursor(self._pass_stars(begin), 0), "name")

    def find_next(self, state: State, required: Places | None = None) -> list[str]:
        """The characters that make a difference after this beginning, and one that stands for all others.

        Args:
            state: The beginning.
            required: Where it makes a difference; None for everywhere. A tag that becomes ``latest`` makes none:
                the same entries match without it.
        """
        found = {"/", ":", "@"}
        if required is None and state.tag is not None and state.tag != _LATEST:
            found.add(_LATEST[len(state.tag)])
        for cursor in (state.cursor, state.untagged):
            if cursor is not None and not (cursor is state.untagged and state.part == "tag"):
                places = cursor.places if required is None else cursor.places & required.places
                found.update(character for character, each in self._by_character.items() if places & each)
                if cursor.branch is not None and (required is None or cursor.branch in required.branches):
                    found.update(self._branches[cursor.branch])
        return [self._other, *sorted(found - {self._other})]

    def find_possible(self, state: State, required: Places) -> frozenset[str] | None:
        """The characters after which a required entry may still match; None if any may follow."""
        places = state.cursor.places & required.places
        if state.part != "name" or places & self._stars:
            return None
        # What stands before a tag may match without it.
        found = {":", *(character for character, each in self._by_character.items() if places & each)}
        if state.cursor.branch is not None and state.cursor.branch in required.branches:
            found.update(self._branches[state.cursor.branch])
        return frozenset(found)

    def find_implied(self, entry: str) -> frozenset[int]:
        """The positions of entries that match whatever this one matches."""
        # What only a star matches stands for any text.
        cursor = self.start.cursor
        for character in entry.replace(EVERYONE, self._other):
            cursor = self._move(cursor, character)
        return frozenset(self._find_ends(cursor))

    def read(self, state: State, character: str) -> State:
        """The state after one character more."""
        cursor, untagged = self._move(state.cursor, character), state.untagged
        if state.part == "digest":
            return State(cursor, "digest", None, untagged and self._move(untagged, character))
        if character == "@":
            return State(cursor, "digest", None, untagged and self._move(untagged, character))
        if character == "/":
            return State(cursor, "name")
        if state.part == "tag":
            tag = None if state.tag is None else state.tag + character
            return State(cursor, "tag", tag if tag and _LATEST.startswith(tag) else None, untagged)
        if character == ":":
            return State(cursor, "tag", "", state.cursor)
        return State(cursor, "name")

    def find_matching(self, state: State) -> frozenset[int]:
        """The positions of the entries that match the image."""
        cursors = [state.cursor]
        if state.part == "name":
            cursor = state.cursor
            for character in f":{_LATEST}":
                cursor = self._move(cursor, character)
            cursors.append(cursor)
        elif state.untagged is not None and (state.part == "digest" or state.tag == _LATEST):
            cursors.append(state.untagged)
        return frozenset(position for cursor in cursors for position in self._find_ends(cursor))

    def find_places(self, *entries: str) -> Places:
        """Where a text may have come to that one of these entries may match in the end."""
        found = [self._places[entry] for entry in entries]
        branches = {branch: left for each in found for branch, left in each.branches.items()}
        return Places(reduce(or_, (each.places for each in found), 0), branches)

    def count_left(self, state: State, required: Places) -> float:
        """The number of characters of a required entry that are still to come, stars apart; infinity if none helps."""
        left = math.inf
        for cursor in (state.cursor, state.untagged):
            if cursor is not None:
                places = cursor.places & required.places
                if places:
                    left = min(left, self._left[places.bit_length() - 1])
                if cursor.branch is not None:
                    left = min(left, required.branches.get(cursor.branch, math.inf))
        return left

    def _add_branch(self, entry: str, position: int) -> list[int]:
        branch = 0
        passed = [branch]
        for character in entry:
            following = self._branches[branch].get(character)
            if following is None:
                following = self._branches[branch][character] = len(self._branches)
                self._branches.append({})
            branch = following
            passed.append(branch)
        self._complete[branch] = position
        return passed

    def _move(self, cursor: Cursor, character: str) -> Cursor:
        moved = (cursor.places & self._by_character.get(character, 0)) << 1
        branch = None if cursor.branch is None else self._branches[cursor.branch].get(character)
        return Cursor(self._pass_stars(moved | (cursor.places & self._stars)), branch)

    def _pass_stars(self, places: int) -> int:
        # A star also matches nothing.
        return places | (places & self._stars) << 1

    def _find_ends(self, cursor: Cursor) -> Iterator[int]:
        if cursor.branch in self._complete:
            yield self._complete[cursor.branch]
        ends = cursor.places & self._all_ends
        while ends:
            end = ends & -ends
            yield self._ends[end]
            ends ^= end
