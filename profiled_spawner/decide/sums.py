"""Where values add up: for whom the sums of two lists of rules are not the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import count, product

from ..errors import UndecidableError
from .deciders import Person
from .rules import Rule, Who

__all__ = ["find_unequal_sum"]

_MOST_TRIES = 10_000


def find_unequal_sum(
    old: Sequence[Rule], new: Sequence[Rule], needs: Sequence[Rule] = (), bars: Sequence[Rule] = ()
) -> Person | None:
    """Returns a person for whom the values of all matching rules do not add up to the same in both lists.

    Rules with different groups never make up for each other: the sums are the same for everybody if and only if, name
    by name, the values of the rules with the same groups add up to the same.

    Args:
        old: The rules of one list that match the image and the moment; their values are numbers. None is a team's.
        new: Those of the other list.
        needs: All of these must match the person too.
        bars: None of these may.
    """
    if any(not rule.who for rule in bars):
        return None
    alone = [rule.who[0] for rule in bars if len(rule.who) == 1]
    together = [rule.who for rule in bars if len(rule.who) > 1]
    barred = frozenset[str]().union(*(who.groups for who in alone))
    barred_users = frozenset[str]().union(*(who.users for who in alone))
    signed = [*((rule, 1) for rule in old), *((rule, -1) for rule in new)]
    needed = dict.fromkeys(who for rule in needs for who in rule.who)
    named = (*(who for rule in (*old, *new) for who in rule.who), *needed)
    names = {None, *(user for who in named for user in who.users if user not in barred_users)}
    tries = count()
    for user in sorted(names, key=lambda name: (name is not None, name or "")):
        missing = [sorted(who.groups - barred) for who in needed if user not in who.users]
        for chosen in product(*missing):
            groups = _find_unbarred(signed, user, frozenset(chosen), barred, together, tries=tries)
            if groups is not None:
                return Person(user, tuple(sorted(groups)))
    return None


def _find_unbarred(
    signed: Iterable[tuple[Rule, int]],
    user: str | None,
    chosen: frozenset[str],
    barred: frozenset[str],
    together: Sequence[tuple[Who, ...]],
    *,
    tries: Iterator[int],
) -> frozenset[str] | None:
    """As `_find_groups`, but so that of no conditions that bar together all hold: somebody has no group of one."""
    groups = _find_groups(signed, user, chosen, barred)
    if groups is None:
        return None
    bar = next((bar for bar in together if all(who.includes(user, groups) for who in bar)), None)
    if bar is None:
        return groups
    if next(tries) > _MOST_TRIES:
        raise UndecidableError("this cannot be decided: the images of teams are for too many combinations of groups")
    less = (barred | who.groups for who in bar if not who.includes(user, chosen))
    found = (_find_unbarred(signed, user, chosen, each, together, tries=tries) for each in less)
    return next((each for each in found if each is not None), None)


def _find_groups(
    signed: Iterable[tuple[Rule, int]], user: str | None, chosen: frozenset[str], barred: frozenset[str]
) -> frozenset[str] | None:
    """Groups, with the chosen ones, in which the sum is not zero; None if it always is."""
    total = 0
    by_groups: dict[frozenset[str], int] = {}
    for rule, sign in signed:
        value = sign * _to_number(rule.value)
        groups = rule.who[0].groups - barred if rule.who else barred
        if not rule.who or rule.who[0].includes(user, chosen):
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
