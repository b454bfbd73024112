"""Where to look for the profiles that match: positions by what their filters name. Built in the parser's thread."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeVar

from .sections import EVERYONE

if TYPE_CHECKING:
    from .model import Profile, Team

__all__ = ["NameIndex", "ProfileIndex"]

T = TypeVar("T")


class NameIndex:
    """Positions of profiles by what their filters name.

    Attributes:
        users: By username; by ``*`` those that a team, of which everyone is a member, gives to everyone.
        groups: By group.
        images: By image, as written.
        patterns: By image with a ``*``: first by what stands before the first one and behind the last, then by the
            texts between them.
        pattern_lengths: How long the outer two are.
    """

    __slots__ = ("groups", "images", "pattern_lengths", "patterns", "users")

    def __init__(self, profiles: Iterable[tuple[int, Profile]]) -> None:
        self.users: dict[str, AbstractSet[int]] = {}
        self.groups: dict[str, AbstractSet[int]] = {}
        self.images: dict[str, AbstractSet[int]] = {}
        self.patterns: dict[tuple[str, str], dict[tuple[str, ...], AbstractSet[int]]] = {}
        for position, profile in profiles:
            # Shared by all names of a profile: a document may have very many names, and most are in one profile only.
            alone = frozenset((position,))
            # What a team gives to everyone is for its members. Otherwise, its profiles are found by their own names.
            who = profile.team if profile.team is not None and profile.is_for_everyone else profile
            for user in who.users or ():
                _add(self.users, user, alone)
            for group in who.groups or ():
                _add(self.groups, group, alone)
            for entry in profile.images or ():
                first, *between = entry.split(EVERYONE)
                if between:
                    last = between.pop()
                    _add(self.patterns.setdefault((first, last), {}), tuple(between), alone)
                else:
                    _add(self.images, entry, alone)
        self.pattern_lengths = {(len(first), len(last)) for first, last in self.patterns}

    def count_patterns(self) -> int:
        """How many different images with a ``*`` there are."""
        return sum(map(len, self.patterns.values()))


def _add(names: dict[T, AbstractSet[int]], name: T, alone: frozenset[int]) -> None:
    known = names.get(name)
    if known is None:
        names[name] = alone
    elif isinstance(known, set):
        known |= alone
    else:
        names[name] = {*known, *alone}


class ProfileIndex:
    """A document's profiles, grouped by which filters they set: who, and what.

    A filter with ``*`` alone counts as not set.

    Attributes:
        neither: The positions of those that set neither.
        who: Those with users or groups only.
        what: Those with images only.
        both: Those with both.
        teams: Those that are from ConfigMaps of teams, by team.
    """

    __slots__ = ("both", "neither", "teams", "what", "who")

    def __init__(self, profiles: Iterable[Profile]) -> None:
        apart: dict[tuple[bool, bool], list[tuple[int, Profile]]] = {}
        neither: list[int] = []
        teams: dict[int, tuple[Team, list[int]]] = {}
        for position, profile in enumerate(profiles):
            if profile.team is not None:
                teams.setdefault(id(profile.team), (profile.team, []))[1].append(position)
            names = profile.names_who, profile.names_what
            if any(names):
                apart.setdefault(names, []).append((position, profile))
            else:
                neither.append(position)
        self.neither = frozenset(neither)
        self.teams = tuple([(team, frozenset(positions)) for team, positions in teams.values()])
        self.who = NameIndex(apart.get((True, False), ()))
        self.what = NameIndex(apart.get((False, True), ()))
        self.both = NameIndex(apart.get((True, True), ()))

    def count_patterns(self) -> int:
        """How many images with a ``*`` may have to be compared with a server's."""
        return self.what.count_patterns() + self.both.count_patterns()
