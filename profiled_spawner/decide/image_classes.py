"""The classes of images that a document tells apart: those that the same entries of `images` match.

An image may be any text, and there are endlessly many. But two images that the same entries match have the same
profiles, so one example of each class stands for all. The classes are found by reading all entries at once, character
by character, as an automaton does; the shortest example of each is what comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ..document.limits import MAX_IMAGE
from ..document.model import EVERYONE
from .image_automaton import ImageAutomaton

__all__ = ["ImageClass", "ImageClasses", "find_image_classes"]


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
    automaton = ImageAutomaton(ordered)
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
