"""Which people there are for whom one rule decides in one list, and another rule in another list.

A person may be anybody: with a name that the rules mention, or with none of these, and in any groups. Going through all
sets of groups is not needed. What decides for a person is the first rule that is for everyone, for the name, or for one
of the groups. So a name and a group are a *point* each: the positions of the first rules for it in both lists. A person
is the lowest of some points in each of the two directions. Two points are enough to come to any pair of positions, and
one more may be needed for each thing that the person must be offered.

Most rules of both lists are paired: they are the same, and stand in the same order (see `comparison`). Where two paired
rules decide, nothing is different. The lowest of two points of paired rules is such a point again. So only points that
are *off* this line matter, and their lowest with other points.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TypeAlias

from .rules import Rule

__all__ = ["Deciding", "People", "Person", "find_unequal_sum"]

Point: TypeAlias = tuple[int, int]
"""The positions of the first rules that match, in the old list and in the new one; its length if none does."""


@dataclass(frozen=True, slots=True)
class Person:
    """An example of a person.

    Attributes:
        user: The username; None for somebody whom the rules do not name.
        groups: The groups that matter.
    """

    user: str | None
    groups: tuple[str, ...] = ()

    def join(self, *groups: str) -> Person:
        """The same person, in these groups too."""
        return Person(self.user, tuple(dict.fromkeys((*self.groups, *groups))))


@dataclass(frozen=True, slots=True)
class Deciding:
    """Two rules that decide for the same person, one in each list, and are not paired.

    Attributes:
        point: Their positions.
        person: An example.
        list_names: Returns every named user for whom this is so without a group, and every group whose members get this
            if they are in no other group, and are not named; nobody if it is so for everyone.
    """

    point: Point
    person: Person
    list_names: Callable[[], tuple[tuple[str, ...], tuple[str, ...]]] = lambda: ((), ())


class _Ranks:
    """The first of some rules that is for everyone, and for each name and group."""

    def __init__(self, rules: Iterable[tuple[int, Rule]], length: int) -> None:
        self.everyone = length
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        for position, rule in rules:
            if rule.users is None:
                self.everyone = position
                break
            for user in rule.users:
                self.users.setdefault(user, position)
            for group in rule.groups:
                self.groups.setdefault(group, position)


class _List:
    """A list of rules; those for every image are ranked once."""

    def __init__(self, rules: Sequence[tuple[int, Rule]], length: int) -> None:
        self.length = length
        self.plain = _Ranks(((position, rule) for position, rule in rules if rule.images is None), length)
        self._by_entry: dict[str, list[tuple[int, Rule]]] = {}
        for position, rule in rules:
            for entry in rule.images or ():
                self._by_entry.setdefault(entry, []).append((position, rule))

    def rank(self, entries: Iterable[str]) -> _Ranks:
        """Ranks the rules for an image that matches these entries, and not every image."""
        found = {position: rule for entry in entries for position, rule in self._by_entry.get(entry, ())}
        return _Ranks(sorted(found.items()), self.length)


class People:
    """The people whom two lists of rules tell apart at a moment."""

    def __init__(
        self,
        old: Sequence[tuple[int, Rule]],
        new: Sequence[tuple[int, Rule]],
        lengths: Point,
        paired: Mapping[int, int],
        *,
        needs: Sequence[Rule] = (),
        bars: Sequence[Rule] = (),
    ) -> None:
        """Ranks names and groups.

        Args:
            old: The rules of one list that apply at the moment, each with its position in the list.
            new: Those of the other list.
            lengths: How long the lists are, with the rules that do not apply.
            paired: The positions of rules that are the same in both lists, in the same order.
            needs: All of these must match the person too.
            bars: None of these may.
        """
        self._exist = all(rule.users is not None for rule in bars)
        self._barred_users = frozenset[str]().union(*(rule.users or () for rule in bars))
        self._barred_groups = frozenset[str]().union(*(rule.groups for rule in bars))
        self._needs = [rule for rule in needs if rule.users is not None]
        self._lists = _List(old, lengths[0]), _List(new, lengths[1])
        self._paired = {**paired, lengths[0]: lengths[1]}
        one, other = (each.plain for each in self._lists)
        self._users = self._line_up(one.users, other.users, self._barred_users)
        self._groups = self._line_up(one.groups, other.groups, self._barred_groups)

    def find(
        self, old_entries: Iterable[str], new_entries: Iterable[str], differ: Callable[[Point], bool]
    ) -> Iterator[Deciding]:
        """Returns every pair of rules that are not paired, and decide for the same person on an image.

        Args:
            old_entries: The entries that the image of the old list matches.
            new_entries: Those that the image of the new list matches.
            differ: Whether a pair is of interest.
        """
        if not self._exist:
            return
        ranks = [each.rank(entries) for each, entries in zip(self._lists, (old_entries, new_entries), strict=True)]
        plain = [each.plain for each in self._lists]
        everyone = min(ranks[0].everyone, plain[0].everyone), min(ranks[1].everyone, plain[1].everyone)

        def locate(kind: str, name: str) -> Point:
            old, new = (
                min(getattr(each, kind).get(name, end) for each in (image, base))
                for image, base, end in zip(ranks, plain, everyone, strict=True)
            )
            return min(old, everyone[0]), min(new, everyone[1])

        special_users = frozenset({*ranks[0].users, *ranks[1].users} - self._barred_users)
        special_groups = frozenset({*ranks[0].groups, *ranks[1].groups} - self._barred_groups)
        groups = self._groups.at(
            everyone, special_groups, {name: locate("groups", name) for name in sorted(special_groups)}
        )
        users = self._users.at(everyone, special_users, {name: locate("users", name) for name in sorted(special_users)})
        found: dict[Point, Person] = {}
        for point, person in self._list_bases(everyone, locate, users):
            reached = _reach(point, person, users, groups)
            for place, who in reached.items():
                if self._paired.get(place[0]) != place[1] and differ(place):
                    known = found.get(place)
                    if known is None or len(who.groups) < len(known.groups):
                        found[place] = who
        for place, who in found.items():
            yield Deciding(place, who, partial(self._list_names, place, users, groups))

    def _list_names(self, place: Point, users: _Points, groups: _Points) -> tuple[tuple[str, ...], tuple[str, ...]]:
        def meets(user: str | None, group: str | None) -> bool:
            return all(user in (rule.users or ()) or group in rule.groups for rule in self._needs)

        return (
            tuple(name for name in users.list_names(place) if meets(name, None)),
            tuple(name for name in groups.list_names(place) if meets(None, name)),
        )

    def _list_bases(
        self, everyone: Point, locate: Callable[[str, str], Point], users: _Points
    ) -> Iterator[tuple[Point, Person]]:
        """The people who meet all needs, with no more groups than that takes; not those named on the line."""
        named = {name for rule in self._needs for name in rule.users or ()} - self._barred_users
        bases = [(everyone, None), *((locate("users", name), name) for name in sorted(named))]
        bases += [(point, name) for point, name in users.list_off() if name not in named]
        for point, user in bases:
            missing = [
                sorted(rule.groups - self._barred_groups) for rule in self._needs if user not in (rule.users or ())
            ]
            for chosen in product(*missing):
                place = point
                for group in chosen:
                    place = _join(place, locate("groups", group))
                yield place, Person(user).join(*chosen)

    def _line_up(self, old: Mapping[str, int], new: Mapping[str, int], barred: frozenset[str]) -> _Line:
        lengths = self._lists[0].length, self._lists[1].length
        points = {
            name: (old.get(name, lengths[0]), new.get(name, lengths[1])) for name in sorted({*old, *new} - barred)
        }
        return _Line(points, self._paired)


class _Line:
    """Names or groups that are ranked alike on every image, those on the line of paired rules apart from the others."""

    def __init__(self, points: Mapping[str, Point], paired: Mapping[int, int]) -> None:
        on: dict[Point, list[str]] = {}
        self.off: dict[str, Point] = {}
        for name, point in points.items():
            if paired.get(point[0]) == point[1]:
                on.setdefault(point, []).append(name)
            else:
                self.off[name] = point
        self.on = sorted(on.items())
        self.old = [point[0] for point, _ in self.on]
        self.new = [point[1] for point, _ in self.on]

    def at(self, everyone: Point, special: frozenset[str], points: Mapping[str, Point]) -> _Points:
        """The same on an image, for which some are ranked otherwise."""
        return _Points(self, everyone, special, points)


class _Points:
    """Names or groups as they are ranked on one image."""

    def __init__(self, line: _Line, everyone: Point, special: frozenset[str], points: Mapping[str, Point]) -> None:
        self._line = line
        self._everyone = everyone
        self._special = special
        off: dict[Point, list[str]] = {}
        for name, point in {**{name: p for name, p in line.off.items() if name not in special}, **points}.items():
            off.setdefault(_join(point, everyone), []).append(name)
        self._off = off

    def list_off(self) -> Iterator[tuple[Point, str]]:
        """Those that are not on the line, or are ranked otherwise on this image; one for each point."""
        for point, names in self._off.items():
            yield point, names[0]

    def join_off(self, place: Point) -> Iterator[tuple[Point, str]]:
        """What a person at this place comes to with one of those that are off the line."""
        for point, names in self._off.items():
            yield _join(place, point), names[0]

    def join_on(self, place: Point) -> Iterator[tuple[Point, str]]:
        """What a person at this place comes to with one of those on the line, if it is another place off the line."""
        for point, names in self._find_between(place):
            for name in names:
                if name not in self._special:
                    yield _join(place, point), name
                    break

    def list_names(self, place: Point) -> Iterator[str]:
        """Every name, or group, that alone is at this place, which is off the line and not where everyone is."""
        for name, point in self._line.off.items():
            if name not in self._special and _join(point, self._everyone) == place:
                yield name
        for point, names in self._find_between(self._everyone):
            if _join(point, self._everyone) == place:
                yield from (name for name in names if name not in self._special)
        yield from sorted(set(self._off.get(place, ())) & self._special)

    def _find_between(self, place: Point) -> Sequence[tuple[Point, list[str]]]:
        # On the line, a lower point takes both directions along, and a higher one none. Between, it takes one.
        line = self._line
        bounds = bisect_left(line.old, place[0]), bisect_left(line.new, place[1])
        return line.on[min(bounds) : max(bounds)]


def _reach(start: Point, person: Person, users: _Points, groups: _Points) -> dict[Point, Person]:
    """Every place off the line that a person comes to in more groups, or with a name if there is none."""
    reached = {start: person}
    alone = reached
    for _ in range(2):
        alone = dict(reached)
        reached |= {
            joined: who.join(group)
            for place, who in alone.items()
            for joined, group in groups.join_off(place)
            if joined not in reached
        }
    # Two points on the line come to one of both. So one is enough, with one that is off the line, or with none.
    reached |= {
        joined: who.join(group)
        for place, who in alone.items()
        for joined, group in groups.join_on(place)
        if joined not in reached
    }
    if person.user is None:
        reached |= {
            joined: Person(user, who.groups)
            for place, who in list(reached.items())
            for joined, user in users.join_on(place)
            if joined not in reached
        }
    return reached


def _join(one: Point, other: Point) -> Point:
    return min(one[0], other[0]), min(one[1], other[1])


def find_unequal_sum(
    old: Sequence[Rule], new: Sequence[Rule], needs: Sequence[Rule] = (), bars: Sequence[Rule] = ()
) -> Person | None:
    """Returns a person for whom the values of all matching rules do not add up to the same in both lists.

    Rules with different groups never make up for each other: the sums are the same for everybody if and only if, name
    by name, the values of the rules with the same groups add up to the same.

    Args:
        old: The rules of one list that match the image and the moment; their values are numbers.
        new: Those of the other list.
        needs: All of these must match the person too.
        bars: None of these may.
    """
    if any(rule.users is None for rule in bars):
        return None
    barred = frozenset[str]().union(*(rule.groups for rule in bars))
    barred_users = frozenset[str]().union(*(rule.users or () for rule in bars))
    signed = [*((rule, 1) for rule in old), *((rule, -1) for rule in new)]
    names = {None, *(user for rule in (*old, *new, *needs) for user in rule.users or () if user not in barred_users)}
    by_need = [rule.groups - barred for rule in needs]
    for user in sorted(names, key=lambda name: (name is not None, name or "")):
        missing = [
            sorted(groups)
            for rule, groups in zip(needs, by_need, strict=True)
            if rule.users is not None and user not in rule.users
        ]
        for chosen in product(*missing):
            groups = _find_groups(signed, user, frozenset(chosen), barred)
            if groups is not None:
                return Person(user, tuple(sorted(groups)))
    return None


def _find_groups(
    signed: Iterable[tuple[Rule, int]], user: str | None, chosen: frozenset[str], barred: frozenset[str]
) -> frozenset[str] | None:
    """Groups, with the chosen ones, in which the sum is not zero; None if it always is."""
    total = 0
    by_groups: dict[frozenset[str], int] = {}
    for rule, sign in signed:
        value = sign * _to_number(rule.value)
        groups = rule.groups - barred
        if rule.users is None or user in rule.users or groups & chosen:
            total += value
        elif groups:
            by_groups[groups] = by_groups.get(groups, 0) + value
    unequal = {groups: value for groups, value in by_groups.items() if value}
    if total:
        return chosen
    if not unequal:
        return None
    everything = frozenset[str]().union(*unequal)
    if sum(unequal.values()):
        return chosen | everything
    # In all groups but those of a smallest rule, all rules count but this one.
    smallest = min(unequal, key=lambda groups: (len(groups), sorted(groups)))
    return chosen | (everything - smallest)


def _to_number(value: Hashable) -> int:
    assert isinstance(value, int)
    return value
