"""Images that match given entries, and as few others as possible.

Whether a profile counts for some image at all depends on the profiles that override it there. The fewer of these match,
the better. So of all images that match an entry, only those matter of which no other image matches fewer entries, and
there are few of them however many entries there are. The search never goes on from a beginning where another one is as
far, and less of other entries has been matched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from heapq import heappop, heappush
from itertools import count

from ..document.limits import MAX_IMAGE
from ..errors import UndecidableError
from .image_automaton import Cursor, ImageAutomaton, Places, State
from .image_classes import ImageClass

__all__ = ["LeastImages"]


_MOST_WAITING = 50_000

# However an image is written, with its tag or without, an entry up to here is the beginning of its name.
_SEPARATOR = re.compile(r"[*:@]")


class LeastImages:
    """Finds images for the entries of one or more documents."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Prepares for these entries; each counts once."""
        self._entries = tuple(dict.fromkeys(entries))
        self._automaton = ImageAutomaton(self._entries)
        self._positions = {entry: position for position, entry in enumerate(self._entries)}
        self.find = cache(self._find)
        self.classify = cache(self._classify)

    def _classify(self, image: str) -> ImageClass:
        """The class of a given image."""
        state = self._automaton.start
        for character in image[: MAX_IMAGE + 1]:
            state = self._automaton.read(state, character)
        positions = self._automaton.find_matching(state) if len(image) <= MAX_IMAGE else frozenset()
        return self._make_class(image, positions)

    def _find(self, *required: str) -> tuple[ImageClass, ...]:
        """Images that match all required entries; none if there are none.

        Returns:
            For every image that matches the required entries, one that matches no other entries than that image does.
            No two of them match the same entries, or fewer than another one.
        """
        beginnings = [_SEPARATOR.split(entry)[0] for entry in required]
        if any(not max(beginnings, key=len).startswith(each) for each in beginnings):
            return ()
        automaton = self._automaton
        needed = frozenset(self._positions[entry] for entry in required)
        implied = needed.union(*map(automaton.find_implied, required))
        separate = [automaton.find_places(entry) for entry in required]
        together = automaton.find_places(*required)
        found: dict[frozenset[int], str] = {}
        least: dict[object, list[tuple[int, State]]] = {}
        numbers = count()
        # First comes what is nearest to a short image, as far as the required entries tell.
        waiting = [(0.0, 0, next(numbers), "", automaton.start)]
        while waiting:
            _, _, _, text, state = heappop(waiting)
            positions = automaton.find_matching(state)
            if text and needed <= positions and not any(other <= positions for other in found):
                found = {other: image for other, image in found.items() if not positions <= other}
                found[positions] = text
                if positions == implied:
                    break  # No image matches less.
            length = len(text) + 1
            if length > MAX_IMAGE:
                continue
            if len(waiting) > _MOST_WAITING:
                raise UndecidableError(
                    "this cannot be decided: the profiles' images have more stars than can be looked at together"
                )
            for character in self._list_next(state, together, separate):
                after = automaton.read(state, character)
                left = sum(automaton.count_left(after, places) for places in separate)
                if left < math.inf and _keep(least, length, after, separate):
                    heappush(waiting, (length + left, -length, next(numbers), text + character, after))
        if not required and frozenset() not in found:
            # Every image matches something, unless it is too long.
            found = {frozenset(): "x" * (MAX_IMAGE + 1)}
        return tuple(self._make_class(image, positions) for positions, image in found.items())

    def _list_next(self, state: State, together: Places, separate: Sequence[Places]) -> list[str]:
        """The characters that make a difference, and after which all required entries may still match."""
        possible = [
            following for places in separate if (following := self._automaton.find_possible(state, places)) is not None
        ]
        found = self._automaton.find_next(state, together)
        return [character for character in found if all(character in each for each in possible)]

    def _make_class(self, image: str, positions: frozenset[int]) -> ImageClass:
        return ImageClass(image, tuple(self._entries[position] for position in sorted(positions)))


def _keep(least: dict[object, list[tuple[int, State]]], length: int, state: State, required: Sequence[Places]) -> bool:
    """Remembers a state, unless one is that is as far with the required entries, and no further with others."""
    key = (
        state.part,
        tuple(
            cursor and (cursor.places & places, cursor.branch if cursor.branch in branches else None)
            for cursor in (state.cursor, state.untagged)
            for places, branches in required
        ),
        state.untagged is None,
    )
    states = least.setdefault(key, [])
    # The longer of two texts may become too long.
    if any(other_length <= length and _is_no_further(other, state) for other_length, other in states):
        return False
    states.append((length, state))
    return True


def _is_no_further(one: State, other: State) -> bool:
    # A tag that may become "latest" may bring back what stands before it.
    return (
        one.tag in (None, other.tag)
        and _is_no_further_at(one.cursor, other.cursor)
        and (one.untagged is None or (other.untagged is not None and _is_no_further_at(one.untagged, other.untagged)))
    )


def _is_no_further_at(one: Cursor, other: Cursor) -> bool:
    return one.places & ~other.places == 0 and one.branch in (None, other.branch)
