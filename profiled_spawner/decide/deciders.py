"""For whom the rules of several lists decide together: one rule of each list, for the same server.

In each list, the first rule that matches decides (see `rules`). So some rules decide together for a server that all of
them match, and no rule above any of them. A server with more groups, or with an image that matches more entries, only
has more rules that match. So it is enough to look at the smallest: people with one name, and one group for each rule
that does not have the name; images that match as little else as possible (see `least_images`); and the moments at which
something begins or ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_

from ..document.times import ALWAYS
from .image_classes import ImageClass
from .rules import Rule

__all__ = ["Deciders", "Deciding", "Person"]


@dataclass(frozen=True, slots=True)
class Person:
    """An example of a person.

    Attributes:
        user: The username; None for somebody whom the rules do not name.
        groups: The groups that matter.
    """

    user: str | None
    groups: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The name, or the only group; nothing for somebody with more, and for somebody without both."""
        if len(self.groups) + (self.user is not None) != 1:
            return (), ()
        return () if self.user is None else (self.user,), self.groups


@dataclass(frozen=True, slots=True)
class Deciding:
    """For whom some rules decide together on an image.

    Attributes:
        image: The image.
        at: Since when this is so, and not before.
        users: Every user for whom it is so without a group.
        groups: Every group whose members get this if they are in no other group and not named.
        person: An example. It has a name and a group, or several groups, only where there are no such users and groups.
    """

    image: ImageClass
    at: float
    users: tuple[str, ...]
    groups: tuple[str, ...]
    person: Person

    @property
    def everyone(self) -> bool:
        """Whether it is so for people without a name and groups."""
        return self.person == Person(None)

    @property
    def is_simple(self) -> bool:
        """Whether it is so for somebody with only a name, or at most one group."""
        return self.everyone or bool(self.users or self.groups)


class Deciders:
    """Finds for whom rules decide together."""

    def __init__(
        self, *lists: Sequence[Rule], needs: Iterable[Rule] = (), bars: Sequence[Rule] = (), since: float = -math.inf
    ) -> None:
        """Prepares for some lists of rules.

        Args:
            lists: In each of them, the first rule that matches decides.
            needs: All of these must match the person too.
            bars: None of these may.
            since: The first moment.
        """
        self._lists = [_List(rules) for rules in lists]
        self._bars = _List(bars)
        self._needs = tuple(needs)
        self._since = since

    def find(self, positions: Sequence[int], find_images: Callable[[], Iterable[ImageClass]]) -> Iterator[Deciding]:
        """Returns for whom the rules at these positions decide, one of each list.

        Args:
            positions: The positions.
            find_images: Returns the images on which to look. It is called only if there may be somebody.

        Returns:
            On each image, everybody with only a name, or only one group. Where there is nobody, one example of somebody
            with more.
        """
        lists = list(zip(self._lists, positions, strict=True))
        wanted = [*(each.rules[position] for each, position in lists), *self._needs]
        begin = max((self._since, *(rule.period.start for rule in wanted)))
        end = min((rule.period.end for rule in wanted), default=math.inf)
        if begin >= end:
            return

        def find_blockers(entries: Iterable[str]) -> _Blockers:
            above = [(each, each.on(entries) & (1 << position) - 1) for each, position in lists]
            return _Blockers([*above, (self._bars, self._bars.on(()))])

        named = [rule for rule in wanted if rule.users is not None]
        names = {name for rule in named for name in rule.users or ()}
        people = _find_people(named, sorted(names), [sorted(rule.groups) for rule in named])
        if people is None or people.without(find_blockers(()).always()) is None:
            return
        for image in find_images():
            yield from _find_on_image(image, people, find_blockers(image.entries), begin, end)


def _find_on_image(
    image: ImageClass, people: _People, blockers: _Blockers, begin: float, end: float
) -> Iterator[Deciding]:
    candidates = people.without(blockers.always())
    if candidates is None:
        return
    everybody = candidates.list_alone()
    known: set[Person] = set()
    other: Deciding | None = None
    for moment in sorted({begin, *(bound for bound in blockers.list_bounds(candidates) if begin < bound < end)}):
        found = candidates.without(blockers.at(moment))
        if found is None:
            continue
        new = [person for person in found.list_alone() if person not in known]
        if new:
            known.update(new)
            users = tuple(person.user for person in new if person.user is not None)
            yield Deciding(image, moment, users, tuple(name for each in new for name in each.groups), new[0])
            if len(known) == len(everybody):
                return
        elif other is None and not known:
            other = Deciding(image, moment, (), (), found.example)
    if other and not known:
        yield other


class _List:
    """A list of rules. A set of its rules is a number, with a bit for each position."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.everyone = self.timed = 0
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self._on_every_image = 0
        self._entries: dict[str, int] = {}
        for position, rule in enumerate(rules):
            bit = 1 << position
            if rule.users is None:
                self.everyone |= bit
            if rule.period != ALWAYS:
                self.timed |= bit
            if rule.images is None:
                self._on_every_image |= bit
            for masks, names in ((self.users, rule.users), (self.groups, rule.groups), (self._entries, rule.images)):
                for name in names or ():
                    masks[name] = masks.get(name, 0) | bit
        self.at = cache(self._at)

    def on(self, entries: Iterable[str]) -> int:
        """The rules for an image that matches these entries."""
        return reduce(or_, (self._entries.get(entry, 0) for entry in entries), self._on_every_image)

    def list(self, chosen: int) -> Iterator[Rule]:
        """The rules of a set."""
        while chosen:
            lowest = chosen & -chosen
            yield self.rules[lowest.bit_length() - 1]
            chosen ^= lowest

    def _at(self, moment: float) -> int:
        """The rules that apply at a moment."""
        bits = (1 << position for position, rule in enumerate(self.rules) if rule.period.covers(moment))
        return reduce(or_, bits, 0)


class _Blockers:
    """Rules none of which may match: a set of each of some lists."""

    def __init__(self, sets: Sequence[tuple[_List, int]]) -> None:
        self._sets = [(each, rules) for each, rules in sets if rules]
        self.everyone = any(rules & each.everyone for each, rules in self._sets)
        """Whether they block everyone."""

    def always(self) -> _Blockers:
        """Those that apply at every moment."""
        return _Blockers([(each, rules & ~each.timed) for each, rules in self._sets])

    def at(self, moment: float) -> _Blockers:
        """Those that apply at a moment."""
        return _Blockers([(each, rules & each.at(moment)) for each, rules in self._sets])

    def has_user(self, name: str) -> bool:
        return any(rules & each.users.get(name, 0) for each, rules in self._sets)

    def has_group(self, name: str) -> bool:
        return any(rules & each.groups.get(name, 0) for each, rules in self._sets)

    def list_bounds(self, people: _People) -> Iterator[float]:
        """When those that block some of these people begin and end."""
        for each, rules in self._sets:
            timed = rules & each.timed
            if timed:
                matching = reduce(or_, (each.users.get(name, 0) for name in people.users), each.everyone)
                names = {name for groups in people.groups for name in groups}
                matching = reduce(or_, (each.groups.get(name, 0) for name in names), matching)
                for rule in each.list(timed & matching):
                    yield from (rule.period.start, rule.period.end)


@dataclass(frozen=True, slots=True)
class _People:
    """Those whom some rules match, each of which is for some users and groups; at least one.

    Attributes:
        rules: The rules.
        users: The users whom any of them names.
        groups: For each rule, its groups.
        example: One of them, with as few groups as possible.
    """

    rules: Sequence[Rule]
    users: Sequence[str]
    groups: Sequence[Sequence[str]]
    example: Person

    def list_alone(self) -> list[Person]:
        """Those with only a name, or only one group; somebody without both if there are no rules."""
        if not self.rules:
            return [self.example]
        users = [name for name in self.users if all(name in (rule.users or ()) for rule in self.rules)]
        groups = [name for name in self.groups[0] if all(name in names for names in self.groups)]
        return [*map(Person, users), *(Person(None, (name,)) for name in groups)]

    def without(self, blockers: _Blockers) -> _People | None:
        """Those who are not blocked; None if nobody is left."""
        if blockers.everyone:
            return None
        users = [name for name in self.users if not blockers.has_user(name)]
        groups = [[name for name in names if not blockers.has_group(name)] for names in self.groups]
        return _find_people(self.rules, users, groups)


def _find_people(rules: Sequence[Rule], users: Sequence[str], groups: Sequence[Sequence[str]]) -> _People | None:
    examples = []
    for user in (None, *users):
        missing = [names for rule, names in zip(rules, groups, strict=True) if user not in (rule.users or ())]
        if all(missing):
            common = [name for name in missing[0] if all(name in names for names in missing)] if missing else []
            some = common[:1] or dict.fromkeys(names[0] for names in missing)
            examples.append(Person(user, tuple(some)))
    if not examples:
        return None
    return _People(rules, users, groups, min(examples, key=lambda each: len(each.groups)))
