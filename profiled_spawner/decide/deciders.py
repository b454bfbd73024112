"""For whom the rules of several lists decide together: one rule of each list, for the same server.

In each list, the first rule that matches decides (see `rules`). So some rules decide together for a server that all of
them match, and no rule above any of them. A server with more groups, or with an image that matches more entries, only
has more rules that match. So it is enough to look at the smallest: people with one name, and one group for each
condition that does not hold for the name; images that match as little else as possible (see `least_images`); and the
moments at which something begins or ends.

A rule with two conditions, its own and its team's, may match by two names of which neither is enough. So where such
rules stand above, names are looked for of which no two are matched together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import and_, or_
from typing import TypeAlias

from ..document.times import ALWAYS
from ..errors import UndecidableError
from .image_classes import ImageClass
from .rules import Rule, Who

__all__ = ["Deciders", "Deciding", "Person"]

_MOST_CHECKS = 1_000_000


_Name: TypeAlias = tuple[str | None, str | None]
"""A user, or else a group."""


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
        within: A group that these users and groups need beside their own, because a team's rule asks for two.
    """

    image: ImageClass
    at: float
    users: tuple[str, ...]
    groups: tuple[str, ...]
    person: Person
    within: str | None = None

    @property
    def everyone(self) -> bool:
        """Whether it is so for people without a name and groups."""
        return self.person == Person(None)

    @property
    def is_simple(self) -> bool:
        """Whether it is so for somebody with only a name, or one group, or two of these that a team's rule needs."""
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
            On each image, everybody with only a name, or only one group; for a team's rule, also everybody with two of
            these. Where there is nobody, one example of somebody with more.
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

        conditions = list(dict.fromkeys(who for rule in wanted for who in rule.who))
        names = {name for who in conditions for name in who.users}
        people = _find_people(conditions, sorted(names), [sorted(who.groups) for who in conditions], _NO_BLOCKERS)
        if people is None or people.without(find_blockers(()).always()) is None:
            return
        pairs = any(len(rule.who) > 1 for rule in wanted)
        for image in find_images():
            yield from _find_on_image(image, people, find_blockers(image.entries), begin, end, pairs=pairs)


def _find_on_image(
    image: ImageClass, people: _People, blockers: _Blockers, begin: float, end: float, *, pairs: bool
) -> Iterator[Deciding]:
    candidates = people.without(blockers.always())
    if candidates is None:
        return
    everybody = candidates.list_least(pairs=pairs)
    known: set[Person] = set()
    other: Deciding | None = None
    for moment in sorted({begin, *(bound for bound in blockers.list_bounds(candidates) if begin < bound < end)}):
        found = candidates.without(blockers.at(moment))
        if found is None:
            continue
        new = {person: within for person, within in found.list_least(pairs=pairs).items() if person not in known}
        if new:
            known.update(new)
            yield from _group(image, moment, new)
            if len(known) == len(everybody):
                return
        elif other is None and not known:
            other = Deciding(image, moment, (), (), found.example)
    if other and not known:
        yield other


def _group(image: ImageClass, moment: float, people: Mapping[Person, str | None]) -> Iterator[Deciding]:
    """Puts together people who need the same group beside their own name, or none."""
    together: dict[str | None, list[Person]] = {}
    for person, within in people.items():
        together.setdefault(within, []).append(person)
    for within, those in together.items():
        users = tuple(person.user for person in those if person.user is not None)
        groups = tuple(name for person in those for name in person.groups if name != within)
        yield Deciding(image, moment, users, groups, those[0], within)


class _Names:
    """Which rules of a list have a name, as sets of these."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}

    def add(self, bit: int, who: Who) -> None:
        """Adds a rule."""
        for masks, names in ((self.users, who.users), (self.groups, who.groups)):
            for name in names:
                masks[name] = masks.get(name, 0) | bit

    def find(self, users: Iterable[str], groups: Iterable[str]) -> int:
        """The rules that have any of these names."""
        of_users = reduce(or_, (self.users.get(name, 0) for name in users), 0)
        return reduce(or_, (self.groups.get(name, 0) for name in groups), of_users)


class _List:
    """A list of rules. A set of its rules is a number, with a bit for each position.

    Attributes:
        rules: The rules.
        everyone: Those for everybody.
        timed: Those that do not apply at every moment.
        double: Those with two conditions.
        names: Which rules match somebody with this name alone: those that have it in each of their conditions.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.everyone = self.timed = self.double = 0
        self.names = _Names()
        self._halves = _Names(), _Names()
        self._on_every_image = 0
        self._entries: dict[str, int] = {}
        for position, rule in enumerate(rules):
            bit = 1 << position
            if not rule.who:
                self.everyone |= bit
            elif len(rule.who) == 1:
                self.names.add(bit, rule.who[0])
            else:
                self.double |= bit
                self.names.add(bit, Who(*(reduce(and_, names) for names in zip(*rule.who, strict=True))))
                for half, who in zip(self._halves, rule.who, strict=True):
                    half.add(bit, who)
            if rule.period != ALWAYS:
                self.timed |= bit
            if rule.images is None:
                self._on_every_image |= bit
            for entry in rule.images or ():
                self._entries[entry] = self._entries.get(entry, 0) | bit
        self.at = cache(self._at)

    def on(self, entries: Iterable[str]) -> int:
        """The rules for an image that matches these entries."""
        return reduce(or_, (self._entries.get(entry, 0) for entry in entries), self._on_every_image)

    def match(self, users: Sequence[str], groups: Sequence[str]) -> int:
        """The rules that match somebody with all these names."""
        one, other = (half.find(users, groups) if self.double else 0 for half in self._halves)
        return self.everyone | self.names.find(users, groups) | one & other

    def match_half(self, name: _Name) -> tuple[int, int]:
        """The rules of which a name is enough for the first condition, and those for the second, of two."""
        user, group = name
        one, other = (
            half.users.get(user, 0) if user is not None else half.groups.get(group or "", 0) for half in self._halves
        )
        return one, other

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
        self._checks = 0
        self._halves: dict[_Name, tuple[int, int]] = {}

    @property
    def double(self) -> bool:
        """Whether any of them has two conditions."""
        return any(rules & each.double for each, rules in self._sets)

    def always(self) -> _Blockers:
        """Those that apply at every moment."""
        return _Blockers([(each, rules & ~each.timed) for each, rules in self._sets])

    def at(self, moment: float) -> _Blockers:
        """Those that apply at a moment."""
        return _Blockers([(each, rules & each.at(moment)) for each, rules in self._sets])

    def has_user(self, name: str) -> bool:
        return any(rules & each.names.users.get(name, 0) for each, rules in self._sets)

    def has_group(self, name: str) -> bool:
        return any(rules & each.names.groups.get(name, 0) for each, rules in self._sets)

    def has_both(self, one: _Name, other: _Name) -> bool:
        """Whether they block somebody with two names, neither of which they block alone.

        Raises:
            UndecidableError: This is asked too often: there are too many such people.
        """
        self._checks += 1
        if self._checks > _MOST_CHECKS:
            raise UndecidableError(
                "this cannot be decided: what is from teams is for more combinations of groups than can be looked at"
            )
        first, second = self._find_halves(one)
        other_first, other_second = self._find_halves(other)
        return bool(first & other_second | second & other_first)

    def _find_halves(self, name: _Name) -> tuple[int, int]:
        found = self._halves.get(name)
        if found is None:
            first = second = 0
            for each, rules in self._sets:
                if rules & each.double:
                    one, other = each.match_half(name)
                    # Behind those of the other lists.
                    first = first << len(each.rules) | one & rules
                    second = second << len(each.rules) | other & rules
            found = self._halves[name] = first, second
        return found

    def list_bounds(self, people: _People) -> Iterator[float]:
        """When those that block some of these people begin and end."""
        for each, rules in self._sets:
            timed = rules & each.timed
            if timed:
                groups = [*{name for groups in people.groups for name in groups}]
                for rule in each.list(timed & each.match(people.users, groups)):
                    yield from (rule.period.start, rule.period.end)


_NO_BLOCKERS = _Blockers(())


@dataclass(frozen=True, slots=True)
class _People:
    """Those for whom some conditions hold, and who are not blocked; at least one.

    Attributes:
        conditions: The conditions.
        users: The users whom any of them names.
        groups: For each condition, its groups.
        blockers: What blocks people. None of the users and groups is blocked alone.
        example: One of them, with few groups.
    """

    conditions: Sequence[Who]
    users: Sequence[str]
    groups: Sequence[Sequence[str]]
    blockers: _Blockers
    example: Person

    def list_least(self, *, pairs: bool) -> dict[Person, str | None]:
        """Those with only a name, or only one group; somebody without both if there are no conditions.

        Args:
            pairs: Whether also those with two of these, of which neither is enough. One is a group, which is returned
                with them.
        """
        if not self.conditions:
            return {self.example: None}
        named: list[list[_Name]] = [
            [*((name, None) for name in self.users if name in who.users), *((None, name) for name in groups)]
            for who, groups in zip(self.conditions, self.groups, strict=True)
        ]
        sets = [*map(frozenset, named)]
        alone = [name for name in named[0] if all(name in names for names in sets)]
        found: dict[Person, str | None] = {Person(user, (group,) if group else ()): None for user, group in alone}
        return {**found, **self._list_pairs(named[0], sets)} if pairs else found

    def _list_pairs(self, first: Iterable[_Name], sets: Sequence[frozenset[_Name]]) -> dict[Person, str]:
        found: dict[Person, str] = {}
        alone = frozenset.intersection(*sets)
        for one in first:
            missing = [names for names in sets if one not in names]
            for other in frozenset.intersection(*missing) - alone if missing else ():
                (user, group), (other_user, other_group) = one, other
                within = other_group or group
                if within is not None:
                    person = Person(user or other_user, tuple(sorted(filter(None, (group, other_group)))))
                    if person not in found and not self.blockers.has_both(one, other):
                        found[person] = within
        return dict(sorted(found.items(), key=lambda each: (each[1], each[0].user or "", each[0].groups)))

    def without(self, blockers: _Blockers) -> _People | None:
        """Those who are not blocked; None if nobody is left."""
        if blockers.everyone:
            return None
        users = [name for name in self.users if not blockers.has_user(name)]
        groups = [[name for name in names if not blockers.has_group(name)] for names in self.groups]
        return _find_people(self.conditions, users, groups, blockers)


def _find_people(
    conditions: Sequence[Who], users: Sequence[str], groups: Sequence[Sequence[str]], blockers: _Blockers
) -> _People | None:
    examples = []
    double = blockers.double
    for user in (None, *users):
        missing = [names for who, names in zip(conditions, groups, strict=True) if user not in who.users]
        if double:
            found = _find_groups(missing if user is None else _leave((user, None), missing, blockers), blockers)
            if found is not None:
                examples = [Person(user, found)]
                break
        elif all(missing):
            common = _find_common(missing)
            some = common[:1] or dict.fromkeys(names[0] for names in missing)
            examples.append(Person(user, tuple(some)))
    if not examples:
        return None
    return _People(conditions, users, groups, blockers, min(examples, key=lambda each: len(each.groups)))


def _find_groups(missing: Sequence[Sequence[str]], blockers: _Blockers) -> tuple[str, ...] | None:
    """A group of each of the missing, no two of which are blocked together; None if there are none."""
    if not missing:
        return ()
    if all(missing):
        for name in dict.fromkeys((*_find_common(missing), *min(missing, key=len))):
            others = [names for names in missing if name not in names]
            found = _find_groups(_leave((None, name), others, blockers), blockers)
            if found is not None:
                return name, *found
    return None


def _leave(name: _Name, missing: Sequence[Sequence[str]], blockers: _Blockers) -> Sequence[Sequence[str]]:
    """Without the groups that are blocked together with a name."""
    return [[group for group in groups if not blockers.has_both(name, (None, group))] for groups in missing]


def _find_common(lists: Sequence[Sequence[str]]) -> list[str]:
    return [name for name in lists[0] if all(name in names for names in lists)] if lists else []
