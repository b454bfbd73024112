"""Every setting of a document as a list of rules: of those that match a server, the first decides what it gets.

The merge of profiles decides setting by setting: the last profile that matches and sets a variable gives its value. So
for each setting, a document is a list of rules, one for each profile that says anything about it, in which the first
that matches decides. Also what looks otherwise is of that kind: whether a toleration is there, which of two sources of
variables comes last, or whether a volume stays. Only preferences of nodes add up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import permutations
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from ..document.model import Document, Entry, EnvVarSource, Object, Profile, Size
from ..document.times import ALWAYS, Period
from .matching import MergeOrder, order_profiles
from .merging import PREFERRED, REQUIRED, to_key

__all__ = [
    "ADDED_UP",
    "NO_RULE",
    "SOURCE_ORDER",
    "UNSET",
    "Rule",
    "RuleBook",
    "SettingKey",
    "Who",
    "find_who",
    "make_rule",
    "make_rule_book",
    "make_rules_of_entries",
]

SettingKey: TypeAlias = tuple[str, Hashable]
"""A section, such as ``env``, and what it sets, such as the name of a variable."""

UNSET: Hashable = ("unset",)
"""The value where no rule matches."""

ADDED_UP = "node_preferences"
"""The section whose values add up: each rule that matches counts, by its value."""

SOURCE_ORDER = "env_from order"
"""The section that says which of two sources in `env_from` overrides the other."""

_NOBODY: frozenset[str] = frozenset()
_EXPRESSIONS = ("matchExpressions", "matchFields")
_NAMED = ("env", "limits", "requests", "node_selector", "labels", "annotations")


class Who(NamedTuple):
    """A condition on people: to be one of these users, or a member of one of these groups."""

    users: frozenset[str]
    groups: frozenset[str]

    def includes(self, user: str | None, groups: AbstractSet[str]) -> bool:
        """Whether it holds for a person."""
        return user in self.users or not self.groups.isdisjoint(groups)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one entry of a document says about one setting.

    Two rules are equal if they give the same to the same servers; the entry has no say.

    Attributes:
        who: For those for whom all of these conditions hold: none for everybody, two at most. The second is a team's,
            whose members alone get what its ConfigMaps say.
        images: On images that match one of these; None for every image.
        period: While this lasts.
        value: What the server gets. Of two equal values, pods have the same.
        entry: The profile, size or image that says so.
        thing: What it says, as the document has it: a value, an amount or an object.
    """

    who: tuple[Who, ...]
    images: frozenset[str] | None
    period: Period
    value: Hashable = field(repr=False)
    entry: Entry = field(compare=False)
    thing: Any = field(compare=False, repr=False, default=None)


NO_RULE = Rule((), None, ALWAYS, UNSET, Profile(-1))
"""What decides where no rule of a list matches."""

RuleBook: TypeAlias = Mapping[SettingKey, tuple[Rule, ...]]
"""The rules of each setting. The first that matches decides."""


def make_rule_book(document: Document, order: MergeOrder, size: Size | None = None) -> RuleBook:
    """Returns the rules for servers of this size.

    Args:
        document: The document.
        order: The merge order.
        size: What was chosen; None for no size. Its rules stand first.
    """
    profiles: list[Profile] = [*order_profiles(document.profiles, order), *([size] if size else [])]
    # What overrides comes last for a merge, and first in a list of rules.
    profiles.reverse()
    book: dict[SettingKey, list[Rule]] = {}
    for profile in profiles:
        for key, value, thing in _list_values(profile):
            book.setdefault(key, []).append(make_rule(profile, value, thing))
    book |= dict((*_make_rules_of_sources(profiles), *_make_rules_of_volumes(profiles)))
    return {key: tuple(rules) for key, rules in book.items()}


def make_rules_of_entries(entries: Iterable[Entry]) -> Mapping[str, Rule]:
    """Returns for each size, image or quota, by name, for whom it is."""
    return {entry.name or "": make_rule(entry, None, entry) for entry in entries}


def make_rule(entry: Entry, value: Hashable, thing: Any = None) -> Rule:
    """Returns what an entry says about a setting."""
    images = frozenset(entry.images or ()) if isinstance(entry, Profile) and entry.names_what else None
    return Rule(find_who(entry), images, entry.period, value, entry, thing)


def find_who(entry: Entry) -> tuple[Who, ...]:
    """Returns for whom an entry is: the conditions of its own filters and of its team's, as `Rule` has them."""
    own = () if entry.is_for_everyone else (Who(entry.users or _NOBODY, entry.groups or _NOBODY),)
    if entry.team is None:
        return own
    found = *own, *find_who(entry.team)
    # One may say it all: for whomever it holds, so does the other.
    for one, other in permutations(found, 2):
        if one.users <= other.users and one.groups <= other.groups:
            return (one,)
    return found


def _list_values(profile: Profile) -> Iterator[tuple[SettingKey, Hashable, Any]]:
    """What a profile sets where the last one decides, or where it is enough that one has it."""
    for section in _NAMED:
        for name, value in getattr(profile, section).items():
            is_source = isinstance(value, EnvVarSource)
            yield (section, name), ("valueFrom", to_key(value.to_kubernetes())) if is_source else to_key(value), value
    for key, source in {to_key(each): each for each in profile.env_from}.items():
        yield ("env_from", key), True, source
    for key, toleration in {to_key(each): each for each in profile.node_tolerations}.items():
        yield ("node_tolerations", key), True, toleration
    for requirement, terms in _split_requirement(profile).items():
        yield ("node_requirements", requirement), True, terms
    preferences: dict[Hashable, list[Object]] = {}
    for preference in profile.node_affinity.get(PREFERRED, ()):
        preferences.setdefault((preference["weight"], _to_expressions(preference["preference"])), []).append(preference)
    for preferred, alike in preferences.items():
        yield (ADDED_UP, preferred), len(alike), alike[0]


def _split_requirement(profile: Profile) -> Mapping[Hashable, Sequence[Object]]:
    """A profile's requirement as requirements that all must hold: alternatives, or each expression of a single one."""
    required = profile.node_affinity.get(REQUIRED)
    if required is None:
        return {}
    # A term without expressions matches no node, says Kubernetes.
    terms = {key: term for term in required["nodeSelectorTerms"] if (key := _to_expressions(term))}
    if len(terms) != 1:
        return {frozenset(terms): tuple(terms.values())}
    (term,) = terms.values()
    return {
        (kind, to_key(expression)): ({kind: (expression,)},)
        for kind in _EXPRESSIONS
        for expression in term.get(kind) or ()
    }


def _to_expressions(term: Object) -> frozenset[Hashable]:
    """The expressions of a NodeSelectorTerm, all of which must hold: their order has no effect."""
    return frozenset((kind, to_key(expression)) for kind in _EXPRESSIONS for expression in term.get(kind) or ())


def _make_rules_of_sources(profiles: Iterable[Profile]) -> Iterator[tuple[SettingKey, list[Rule]]]:
    """Which of two `env_from` sources comes last: of variables that both have, Kubernetes takes its."""
    positions: dict[Hashable, dict[int, int]] = {}
    using = [profile for profile in profiles if profile.env_from]
    for number, profile in enumerate(using):
        for position, source in enumerate(profile.env_from):
            positions.setdefault(to_key(source), {})[number] = position
    keys = list(positions)
    for index, one in enumerate(keys):
        for other in keys[index + 1 :]:
            ones, others = positions[one], positions[other]
            pair = frozenset({one, other})
            yield (
                (SOURCE_ORDER, pair),
                [
                    make_rule(using[number], key, using[number].env_from[position])
                    for number in sorted({*ones, *others})
                    for position, key in [
                        max((ones.get(number, -1), one), (others.get(number, -1), other), key=itemgetter(0))
                    ]
                ],
            )


def _make_rules_of_volumes(profiles: Iterable[Profile]) -> Iterator[tuple[SettingKey, list[Rule]]]:
    """Whether a volume is there: the last profile that uses its name or its path decides, with its last such volume."""
    uses: dict[tuple[str, str], list[tuple[int, int]]] = {}
    using = [profile for profile in profiles if profile.volumes]
    volumes: dict[Hashable, tuple[str, str]] = {}
    for number, profile in enumerate(using):
        for position, volume in enumerate(profile.volumes):
            name, path = volume["name"], volume["mountPath"].rstrip("/")
            volumes.setdefault(to_key(volume), (name, path))
            for use in (("name", name), ("path", path)):
                uses.setdefault(use, []).append((number, position))
    for key, (name, path) in volumes.items():
        last = dict(sorted({*uses["name", name], *uses["path", path]}))
        yield (
            ("volumes", key),
            [
                make_rule(using[number], True if to_key(volume) == key else UNSET, volume)
                for number, position in last.items()
                for volume in [using[number].volumes[position]]
            ],
        )
