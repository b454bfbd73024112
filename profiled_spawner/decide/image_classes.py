"""The classes of images that a document tells apart: those that the same entries of `images` match.

An image may be any text, and there are endlessly many. But two images that the same entries match have the same
profiles, so one example of each class stands for all. The classes are found by reading all entries at once, character
by character, as an automaton does; the shortest example of each is what comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..document.limits import MAX_IMAGE
from ..document.model import EVERYONE

__all__ = ["ImageClass", "ImageClasses", "find_image_classes"]

_LATEST = "latest"


@dataclass(frozen=True, slots=True)
class ImageClass:
    """The images that the same entries match.

    Attributes:
        example: One of them, and none is shorter.
        entries: The entries, as the document has them and in its order; none for the images that it does not mention.
    """

    example: str
    entries: tuple[str, ...]

    @property
    def is_one_image(self) -> bool:
        """Whether an entry without a star is among them, so that the example is the only image, or another way to
        write it."""
        return any(EVERYONE not in entry for entry in self.entries)


@dataclass(frozen=True, slots=True)
class ImageClasses:
    """What `find_image_classes` found.

    Attributes:
        classes: Single images first, in the order of their entries; then those with most entries first.
        complete: False if there are more: there were more than `most_states` ways to begin an image.
    """

    classes: tuple[ImageClass, ...]
    complete: bool


def find_image_classes(entries: Iterable[str], *, most_states: int = 50_000) -> ImageClasses:
    """Returns the classes of images that some entries tell apart.

    Exactly the classes that `matching` tells apart: an image is also matched as it is with ``:latest``, or without, and
    one with a digest is also matched without its tag.

    Args:
        entries: Entries of profiles' `images`; each counts once.
        most_states: Where to stop. Each different way to begin an image is a state; many entries with a star in front
            may have more than anybody can wait for.

    Example:
        ``lab/forecast:3.6`` and ``lab/*`` have three: that image, others like ``lab/``, and all others.
    """
    ordered = tuple(dict.fromkeys(entries))
    automaton = _Automaton(ordered)
    examples: dict[frozenset[int], str] = {}
    begun = {automaton.start}
    waiting = deque([("", automaton.start)])
    while waiting and len(begun) <= most_states:
        text, state = waiting.popleft()
        if text:
            examples.setdefault(automaton.find_matching(state), text)
        if len(text) == MAX_IMAGE:
            continue
        for character in automaton.find_next(state):
            after = automaton.read(state, character)
            if after not in begun:
                begun.add(after)
                waiting.append((text + character, after))
    classes = [
        ImageClass(example, tuple(ordered[position] for position in sorted(positions)))
        for positions, example in examples.items()
    ]
    positions = {entry: position for position, entry in enumerate(ordered)}
    classes.sort(key=lambda each: _rank(each, positions))
    return ImageClasses(tuple(classes), complete=not waiting)


def _rank(found: ImageClass, positions: dict[str, int]) -> tuple[int, int, list[int]]:
    single = [positions[entry] for entry in found.entries if EVERYONE not in entry]
    if single:
        return 0, min(single), []
    return 1, -len(found.entries), [positions[entry] for entry in found.entries]


class _Cursor(NamedTuple):
    """How far the entries have been read.

    Attributes:
        places: A bit for each place in an entry with a star that the text may have come to.
        branch: The branch of the tree of entries without a star; None if none of them begins like this.
    """

    places: int
    branch: int | None


class _State(NamedTuple):
    """All that matters of how an image begins.

    Attributes:
        cursor: How far the entries have been read.
        part: What stands at the end: the name, the tag or the digest.
        tag: The tag so far, while it may become ``latest``; None otherwise.
        untagged: The cursor of the same image without its tag; None if there is none.
    """

    cursor: _Cursor
    part: Literal["name", "tag", "digest"]
    tag: str | None = None
    untagged: _Cursor | None = None


class _Automaton:
    """Reads an image, and knows which entries match it.

    Entries with a star are one nondeterministic automaton, whose states are the bits of a number: reading a character
    is a shift. The others are a tree.
    """

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._by_character: dict[str, int] = {}
        self._stars = 0
        self._ends: dict[int, int] = {}
        self._branches: list[dict[str, int]] = [{}]
        self._complete: dict[int, int] = {}
        begin = place = 0
        for position, entry in enumerate(entries):
            if EVERYONE not in entry:
                self._add_branch(entry, position)
                continue
            begin |= 1 << place
            before = ""
            for character in entry:
                if character != EVERYONE:
                    self._by_character[character] = self._by_character.get(character, 0) | 1 << place
                elif before == EVERYONE:
                    continue
                else:
                    self._stars |= 1 << place
                before = character
                place += 1
            self._ends[1 << place] = position
            place += 1
        self._all_ends = sum(self._ends)
        known = {*self._by_character, *(character for branch in self._branches for character in branch), *":@/"}
        #: A character that no entry has: any of them does what all do.
        self._other = next(each for each in map(chr, range(ord("a"), 0x110000)) if each not in known)
        self.start = _State(_Cursor(self._pass_stars(begin), 0), "name")

    def find_next(self, state: _State) -> Iterator[str]:
        """The characters that make a difference after this beginning, and one that stands for all others."""
        found = {"/", ":", "@", self._other}
        if state.tag is not None and state.tag != _LATEST:
            found.add(_LATEST[len(state.tag)])
        for cursor in (state.cursor, state.untagged):
            if cursor is not None and not (cursor is state.untagged and state.part == "tag"):
                found.update(character for character, places in self._by_character.items() if places & cursor.places)
                if cursor.branch is not None:
                    found.update(self._branches[cursor.branch])
        return iter(sorted(found, key=lambda each: (each != self._other, each)))

    def read(self, state: _State, character: str) -> _State:
        """The state after one character more."""
        cursor, untagged = self._move(state.cursor, character), state.untagged
        if state.part == "digest":
            return _State(cursor, "digest", None, untagged and self._move(untagged, character))
        if character == "@":
            return _State(cursor, "digest", None, untagged and self._move(untagged, character))
        if character == "/":
            return _State(cursor, "name")
        if state.part == "tag":
            tag = None if state.tag is None else state.tag + character
            return _State(cursor, "tag", tag if tag and _LATEST.startswith(tag) else None, untagged)
        if character == ":":
            return _State(cursor, "tag", "", state.cursor)
        return _State(cursor, "name")

    def find_matching(self, state: _State) -> frozenset[int]:
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

    def _add_branch(self, entry: str, position: int) -> None:
        branch = 0
        for character in entry:
            following = self._branches[branch].get(character)
            if following is None:
                following = self._branches[branch][character] = len(self._branches)
                self._branches.append({})
            branch = following
        self._complete[branch] = position

    def _move(self, cursor: _Cursor, character: str) -> _Cursor:
        moved = (cursor.places & self._by_character.get(character, 0)) << 1
        branch = None if cursor.branch is None else self._branches[cursor.branch].get(character)
        return _Cursor(self._pass_stars(moved | (cursor.places & self._stars)), branch)

    def _pass_stars(self, places: int) -> int:
        # A star also matches nothing.
        return places | (places & self._stars) << 1

    def _find_ends(self, cursor: _Cursor) -> Iterator[int]:
        if cursor.branch in self._complete:
            yield self._complete[cursor.branch]
        ends = cursor.places & self._all_ends
        while ends:
            end = ends & -ends
            yield self._ends[end]
            ends ^= end
