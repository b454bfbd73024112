"""Who can get a thing, and who can be without it: exact for every possible server.

Each setting that may give the thing is a list of rules, of which the first that matches decides (see `rules`). So this
asks of each rule that gives the thing for whom it decides (see `deciders`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

from ..document.model import Document, Entry, EnvVarSource, Profile
from ..document.templates import Template, may_expand_to
from ..document.times import ALWAYS
from .comparison import IMAGE, SIZE, Change, Choice, Comparer, Example, SizeBooks, fix_moment
from .matching import MergeOrder, Roster
from .rules import NO_RULE, UNSET, Rule, RuleBook, SettingKey, Who, make_rule

__all__ = ["KINDS", "PROFILE", "Kind", "Lacking", "Thing", "find_holders", "find_lacking", "list_references"]

Kind: TypeAlias = Literal["env", "secret", "resource", "profile", "size", "image-choice", "claim"]
KINDS: Sequence[Kind] = ("env", "secret", "resource", "profile", "size", "image-choice", "claim")

PROFILE = "profile"
"""The section that says whether a profile matches."""

# Which fields of Kubernetes' objects refer to an object of a kind, and how what stands there has its name.
_REFERENCES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "secret": (("secretKeyRef", "secretRef", "secret", "nodePublishSecretRef"), ("name", "secretName")),
    "claim": (("persistentVolumeClaim",), ("claimName",)),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that people may get.

    Attributes:
        kind: ``env``: a variable that has a value, or refers to one. ``secret``: a Secret that variables or volumes
            refer to. ``resource``: a limit or a guarantee that is not zero, by its name in Kubernetes. ``profile``: a
            profile that matches. ``size``, ``image-choice``: one that may be chosen. ``claim``: a volume's
            PersistentVolumeClaim.
        name: The name.
    """

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """Somebody who can be without a thing.

    Attributes:
        rules: What decides in place of the thing; nothing where no profile says anything.
        example: A server.
    """

    rules: tuple[Rule, ...]
    example: Example


def find_holders(
    document: Document,
    thing: Thing,
    order: MergeOrder = "specificity",
    *,
    at: float | None = None,
    since: float = -math.inf,
    outside: tuple[Iterable[str], Iterable[str]] = ((), ()),
    roster: Roster | None = None,
) -> tuple[Change, ...]:
    """Returns who can get a thing, and through what.

    Args:
        document: The document.
        thing: The thing.
        order: The merge order.
        at: The moment; None for every moment from `since` on.
        since: The first moment.
        outside: Users and groups; nobody of these is looked at.
        roster: Whose names to add to the changes; it has no say in who can get the thing.

    Returns:
        A change for each rule that gives the thing to somebody: from nothing, to this rule. The value of the rule is
        the name of the thing, or a `Template` that may expand to it.
    """
    search = _Search(document, thing, order, at, since)
    users, groups = map(frozenset, outside)
    bar = Rule((Who(users, groups),), None, ALWAYS, UNSET, NO_RULE.entry)
    choices = [(replace(choice, bars=(*choice.bars, bar)), own) for choice, own, _ in search.list_choices()]

    def compare(comparer: Comparer) -> Iterator[Change]:
        for choice, own in choices:
            for setting, rules in own.items():
                yield from comparer.compare_rules(setting, ((), rules), choice)

    changes = tuple(compare(search.comparer))
    return changes if roster is None else search.comparer.add_people(changes, roster, compare)


def find_lacking(
    document: Document,
    thing: Thing,
    order: MergeOrder = "specificity",
    *,
    at: float | None = None,
    since: float = -math.inf,
) -> Lacking | None:
    """Returns somebody who can be without a thing; None if nobody can.

    A name that depends on the server, because it is a template, counts as another one.

    Args:
        document: The document.
        thing: The thing.
        order: The merge order.
        at: The moment; None for every moment from `since` on.
        since: The first moment.
    """
    search = _Search(document, thing, order, at, since)
    for choice, _, every in search.list_choices():
        found = search.find_lacking(list(every.values()), choice)
        if found is not None:
            return found
    return None


class _Search:
    """What gives a thing, for every choice."""

    def __init__(self, document: Document, thing: Thing, order: MergeOrder, at: float | None, since: float) -> None:
        if at is not None:
            document, since = fix_moment(document, at), at
        self._document = document
        self._thing = thing
        self.comparer = Comparer(document, document, order, since)

    def list_choices(self) -> Iterator[tuple[Choice, RuleBook, RuleBook]]:
        """For every choice, the rules of each setting that may give the thing: those that it has a say in, and all."""
        entries: Mapping[str, tuple[str, Iterable[Entry]]] = {
            "size": (SIZE, self._document.sizes),
            "image-choice": (IMAGE, self._document.images),
            "profile": (PROFILE, self._document.profiles),
        }
        sizes: list[tuple[SizeBooks, RuleBook]] = []
        if self._thing.kind in entries:
            section, those = entries[self._thing.kind]
            # Several profiles may have one name, or none.
            base = self._find(
                {
                    (section, place if section == PROFILE else entry.name): (make_rule(entry, True),)
                    for place, entry in enumerate(those)
                }
            )
        else:
            base = self._find(self.comparer.base[1])
            sizes = [(size, self._find(size.books[1])) for size in self.comparer.sizes]
        # What is offered does not depend on what is chosen.
        is_choice = self._thing.kind in ("size", "image-choice")
        for choice in [Choice()] if is_choice else self.comparer.list_image_choices():
            yield choice, base, base
            for size, own in sizes:
                yield choice.with_size(size), own, {**base, **own}

    def find_lacking(self, lists: Sequence[Sequence[Rule]], choice: Choice) -> Lacking | None:
        """Somebody for whom, in each list, a rule decides that does not give the thing."""
        return self._go_on([self.comparer.find_deciding(rules, choice.new_image) for rules in lists], (), choice)

    def _go_on(self, lists: Sequence[Sequence[Rule]], positions: tuple[int, ...], choice: Choice) -> Lacking | None:
        # The rules at these positions decide in the first lists.
        number = len(positions)
        rules = [each[position] for each, position in zip(lists, positions, strict=False)]
        deciders = self.comparer.make_deciders(lists[:number], choice)
        deciding = next(deciders.find(positions, partial(self.comparer.find_images, rules, choice)), None)
        if deciding is None:
            return None
        if number == len(lists):
            example = self.comparer.make_example(deciding.image, deciding.person, deciding.at, choice)
            return Lacking(tuple(rule for rule in rules if rule is not NO_RULE), example)
        without = (position for position, rule in enumerate(lists[number]) if not self._is_sure(rule.value))
        found = (self._go_on(lists, (*positions, position), choice) for position in without)
        return next((each for each in found if each is not None), None)

    def _is_sure(self, value: Hashable) -> bool:
        return value == self._thing.name and not isinstance(value, Template)

    def _find(self, book: RuleBook) -> RuleBook:
        """The settings that may give the thing. The value of a rule is the thing's name, a template, or `UNSET`."""
        found: dict[SettingKey, tuple[Rule, ...]] = {}
        for setting, rules in book.items():
            values = [self._find_name(setting, rule) for rule in rules]
            if any(value != UNSET for value in values):
                found[setting] = tuple(replace(rule, value=value) for rule, value in zip(rules, values, strict=True))
        return found

    def _find_name(self, setting: SettingKey, rule: Rule) -> Hashable:
        """What the thing is called where the rule decides; `UNSET` where it is not there."""
        section, name = setting
        kind, asked = self._thing.kind, self._thing.name
        if kind in _REFERENCES:
            if rule.value == UNSET or section not in ("env", "env_from", "volumes"):
                return UNSET
            called = [each for each in list_references(kind, rule.thing) if _may_be(each, asked)]
            # A name that is always the same says more than one that depends on the server.
            return min(called, key=lambda each: isinstance(each, Template), default=UNSET)
        if kind == "env":
            is_it = section == "env" and name == asked and rule.thing is not None
        elif kind == "resource":
            is_it = section in ("limits", "requests") and name == asked and bool(rule.thing and rule.thing.amount)
        else:
            entry = rule.entry
            is_it = entry.name == asked or (isinstance(entry, Profile) and entry.label == asked)
        return asked if is_it else UNSET


def _may_be(name: str, asked: str) -> bool:
    return may_expand_to(name, asked) if isinstance(name, Template) else name == asked


def list_references(kind: Kind, thing: Any) -> Iterator[str]:
    """The Secrets or claims to which a variable's value, or an object of Kubernetes, refers, by name."""
    fields, names = _REFERENCES[kind]
    if isinstance(thing, EnvVarSource):
        thing = thing.to_kubernetes()
    if isinstance(thing, Mapping):
        for field, each in thing.items():
            if field in fields:
                yield from (each[name] for name in names if name in each)
            yield from list_references(kind, each)
    elif isinstance(thing, Sequence) and not isinstance(thing, str):
        for each in thing:
            yield from list_references(kind, each)
