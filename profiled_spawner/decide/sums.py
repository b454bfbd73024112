"""Where values add up: for whom the sums of two lists of rules are not the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import product

from .deciders import Person
from .rules import Rule

__all__ = ["find_unequal_sum"]


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
